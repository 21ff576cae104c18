"""Pages made of what strangers wrote: feedback, the class report, and the formgrader's cells."""
