"""Adam with its update in one pass over the weights.

Keras writes the update as a dozen operations, each a pass over weights, gradient or
moments, and each traced anew for every weight; TensorFlow has one kernel for all of it.
"""

import keras
import tensorflow as tf
from keras.src import api_export  # where Keras keeps the names under which classes are written to files


class Adam(keras.optimizers.Adam):
    """`keras.optimizers.Adam`, algorithm 1 of Kingma & Ba 2015, on TensorFlow's fused kernel.

    Arguments and values are Keras', to the last digits; with `amsgrad`, and for sparse
    gradients, it is Keras' own update.

    >>> Adam(1e-3).learning_rate.numpy()
    np.float32(0.001)
    """

    def update_step(self, gradient, variable, learning_rate):
        """Move `variable` by one step against `gradient`."""
        if self.amsgrad or not isinstance(gradient, tf.Tensor):
            return super().update_step(gradient, variable, learning_rate)
        index = self._get_variable_index(variable)
        variable = variable.value if isinstance(variable, keras.Variable) else variable
        kind = variable.dtype
        step = tf.cast(self.iterations + 1, kind)
        beta_1, beta_2 = tf.cast(self.beta_1, kind), tf.cast(self.beta_2, kind)
        return tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=beta_1**step,
            beta2_power=beta_2**step,
            lr=tf.cast(learning_rate, kind),
            beta1=beta_1,
            beta2=beta_2,
            epsilon=tf.cast(self.epsilon, kind),
            grad=tf.cast(gradient, kind),
        )


# Written into a file it is its parent, which any Keras can load.
api_export.REGISTERED_OBJS_TO_NAMES[Adam] = "keras.optimizers.Adam"
