"""What a pilot run says of the study to come: batch sizes, the learning rate's box, budget, cost, and its doubts."""
