"""The mathematics of xpnet, on the Python Array API alone.

Every function takes the namespace ``xp`` that its arrays belong to and knows no library by name. Nothing
here reads a value back to the host, touches a file or keeps a global. Read the files in this order:

``typing``        the words of the signatures
``dense``         Z = A W + b, and its gradient
``activations``   relu, tanh, sigmoid, identity, each with its derivative
``loss``          softmax and cross-entropy, differentiated together
``initializers``  where the weights start
``network``       the layers in a row: forward, then backpropagation
``schedules``     how the learning rate moves
``optimizers``    how a gradient becomes a step
``step``          one training step, the same function on every library
"""
