"""Networks: what they are to the program, the batched multilayer perceptron, the trainer."""
