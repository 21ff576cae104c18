"""The methods of the course: data -> model -> posterior -> predictive -> score -> metric -> figure -> claim."""

__version__ = "0.1.0"
