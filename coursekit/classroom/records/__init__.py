"""What lasts: the course's folders, its gradebook, the tables of grades and what is exported from them."""
