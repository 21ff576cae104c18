"""The judge: draws what is asked, reads plain data, decides; in a process that never meets a student's code."""
