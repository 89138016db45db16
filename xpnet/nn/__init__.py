"""The mathematics of xpnet, on the Python Array API alone.

Every function takes ``xp``, the namespace that its arrays belong to, and names no library. No function inside
a step reads a value back to the host, and none opens a file or keeps global state. Read the files in this
order:

``dense``         the dense layer Z = A W + b, and its gradient
``activations``   relu, tanh, sigmoid and identity, each with its derivative
``metrics``       how good the outputs are, from sums that a step adds up
``losses``        how wrong the outputs are, and the derivative that they all share
``initializers``  the random initial weights
``network``       the forward pass through all layers, and backpropagation
``random``        random numbers inside a step, the same on every library
``dropout``       the masks of dropout
``distortion``    images that are moved and bent a little
``schedules``     how the learning rate changes during a run
``optimizers``    how the gradient changes the weights
``step``          one training step, the same function on every library

``typing`` only names the types in the signatures.
"""
