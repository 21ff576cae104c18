"""What one submission may use. Every limit is named in the reason when it is the one that stopped a notebook."""

from dataclasses import asdict, dataclass, fields


@dataclass(frozen=True)
class Limits:
    """Limits of one submission; change them in nbgrader_config.py, e.g. `c.CourseKit.cell_seconds = 120`.

    >>> Limits.from_config({"cell_seconds": 5}).cell_seconds
    5
    """

    cell_seconds: int = 60  # one cell, as if the machine had nothing else to do; then it is interrupted
    total_seconds: int = 600  # the whole notebook, in the same seconds; then its kernel is killed
    memory_mb: int = 1536  # data of one process, and of all processes of the box together
    disk_mb: int = 192  # the box's home and temporary files, which live in memory
    processes: int = 64
    open_files: int = 512
    output_mb: int = 20  # all outputs of the notebook together
    cell_output_kb: int = 1024  # what is kept of one cell's outputs
    notebook_mb: int = 50  # the file that was handed in
    cells: int = 2000
    files: int = 100  # files beside the notebook
    submission_mb: int = 64  # all files together

    @classmethod
    def from_config(cls, settings: dict) -> "Limits":
        """Limits with the values that `settings` (the section c.CourseKit) names; other keys are not limits."""
        known = {f.name: settings[f.name] for f in fields(cls) if f.name in settings}
        for name, value in known.items():
            if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
                raise ValueError(f"c.CourseKit.{name} is {value!r}; it must be a whole number greater than 0")
        return cls(**known)

    def to_dict(self) -> dict[str, int]:
        """The limits as plain data."""
        return asdict(self)
