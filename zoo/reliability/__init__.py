"""How far a prediction can be trusted: calibration, selective prediction, shift, and prediction sets."""
