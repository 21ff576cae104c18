"""A lab, from its text source to what students get and to what grading needs of it."""
