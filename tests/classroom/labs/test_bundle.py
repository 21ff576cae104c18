"""What the grader knows of a lab: its data files go with it, answers and variants do not."""

import shutil

from coursekit.classroom.labs.bundle import load
from coursekit.classroom.records.course import Course


def test_data_files_go_with_a_lab_and_its_variants_do_not(kit, tmp_path):
    own = shutil.copytree(kit, tmp_path / "kit")
    folder = own / "solutions" / "tiny"
    (folder / "variants.py").write_text("VARIANTS = []")
    (folder / "points.csv").write_text("x\n1\n")
    bundle = load(Course.open(tmp_path / "class", own), "tiny")
    assert list(bundle.files) == ["points.csv"]
    assert b"VARIANTS" not in bundle.to_bytes()
