"""The sampling loop on one block, for tests of solvers."""

from medsegdiff_auto.diffusion.sampling import WHOLE, OneBlock, sample
from medsegdiff_auto.tables import SOLVERS


def in_one_block(predict, noise, num_steps, solver, schedule, draw_noise=None):
    """The x_0 that the loop ends with; predict gives x_0 of x_t and t, draw_noise that of a step."""
    states = OneBlock(noise)

    def blocks(step, t):
        yield WHOLE, predict(states.read(), t)

    sample(states, blocks, num_steps, SOLVERS.row(solver), schedule, lambda step, block: draw_noise(),
           lambda x_start: x_start, OneBlock)
    return states.read()
