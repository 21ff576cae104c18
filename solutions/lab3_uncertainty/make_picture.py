"""Draw result.png, the picture at the top of lab 3: python solutions/lab3_uncertainty/make_picture.py (a minute)."""

from pathlib import Path
from types import SimpleNamespace

import jupytext
import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt

from coursekit import device as devices
from coursekit.plots import detection, images, style
from coursekit.uncertainty import failure

# The lab itself makes what is drawn: its section 0, and the model answer of question 4.1. So the picture cannot differ.
cells = [c for c in jupytext.read(Path(__file__).with_name("lab3_uncertainty.py")).cells if c.cell_type == "code"]
ids = [cell.metadata.get("nbgrader", {}).get("grade_id") for cell in cells]
names: dict = {}
for cell in cells[: ids.index("q1_1")] + [cells[ids.index("q4_1")]]:
    exec(cell.source, names)
lab = SimpleNamespace(**names)
probs, mc = lab.logits_test.softmax(1), lab.mc_test

figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.8))
worst = mc.entropy.argsort(descending=True)[:12]
captions = [f"{int(lab.y_test[n])} → {int(mc.labels[n])}" for n in worst]
wrong = mc.labels[worst] != lab.y_test[worst]
images.image_grid(lab.x_test[worst], captions=captions, wrong=wrong, columns=4, ax=left)
left.set_title("least certain: label → prediction")

confidnet = failure.fit_confidnet(
    lab.net, lab.x_all, lab.y_all, epochs=12, generator=devices.generator(0), progress=False
)
scores = {"MCP": probs.amax(1), "ConfidNet": confidnet(lab.x_test)}
scores |= {n: s for n, s in failure.confidence_scores(mc).items() if n != "MCP"}
for name, score in scores.items():
    metrics = failure.failure_metrics(score, lab.correct).detection
    detection.precision_recall(metrics, negatives=True, label=name, ax=middle)
middle.set_title(f"finding {int((~lab.correct).sum())} misread digits among {len(lab.y_test)}")
middle.get_legend().set_loc("upper right")

# The 500 digits and 125 letters of the rehearsal, and what becomes of each; one letter is too far away for the axis.
decision, confidence = lab.decide(lab.rehearsal, lab.known), lab.rehearsal.probs.amax(1)
for value, (name, color) in enumerate({"accept": "blue", "hand over": "amber", "reject": "orange"}.items()):
    for part, marker, size in ((slice(None, 500), "o", 3), (slice(500, None), "x", 5)):
        here = decision[part] == value
        where = confidence[part][here], lab.rehearsal.distance[part][here]
        label = name if marker == "o" else None
        right.plot(*where, marker, ms=size, alpha=0.8, color=style.COLORS[color], label=label)
right.set(
    yscale="log", ylim=(15, 900), xlabel="largest mean probability", ylabel="squared distance to the nearest class"
)
right.set_title("a rule decides: o digits, x letters")
right.legend(loc="lower left", markerscale=2)
figure.savefig(Path(__file__).with_name("result.png"), dpi=80, metadata={"Software": None})
