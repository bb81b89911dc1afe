# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # MedSegDiff, step by step
#
# Every step has one equation, the function of MedSegDiff-Auto that is this equation, one picture, one thing to look at
# and one number to change. Nothing is copied here: the functions are imported from where trainings and predictions use
# them. Each cell asserts what its text claims, so that a change which breaks an equation breaks the cell.
#
# The papers: MedSegDiff (Wu et al., arXiv 2211.00611), the cosine schedule and its shift (Hoogeboom et al. 2023,
# "simple diffusion"), and for the last part proper scores (Gneiting and Raftery 2007; De Bortoli et al. 2025).
# `medsegdiff_auto/EQUATIONS.md` lists all equations with their sources.
#
# The images are **phantoms**, for which the true distribution of the masks is known: what a method draws can be
# compared with what annotators would draw. It runs in a few minutes on two CPU cores.

# %%
import os

import numpy as np
import torch

from medsegdiff_auto.explanation.step_pictures import curves, maps

IS_SMALL = os.environ.get("MEDSEGDIFF_STEP_BY_STEP") == "small"  # sizes at which nothing is learned, for a test
SIDE, NUM_CASES, NUM_HELD_OUT = 32, 24 if IS_SMALL else 332, 8 if IS_SMALL else 32
ITERATIONS, ITERATIONS_OF_AUTO, NUM_STEPS = (3, 3, 4) if IS_SMALL else (600, 800, 10)
generator = torch.Generator().manual_seed(0)
torch.manual_seed(0)

# %% [markdown]
# ## 1. An image does not determine its mask
#
# $$P(v \in M) = \Phi\left(\frac{1 - \rho(v)}{\delta}\right)$$
#
# `phantoms.posterior.Posterior`. An organ's border is drawn more or less generously: $\rho$ is the distance from the
# centre, 1 on the nominal surface, and $\delta$ says how much annotators differ. A faint lobe at its side is counted
# to the organ by 35 % of the annotators, as a whole or not at all. The image shows where the lobe is, and nothing in
# it says who is right.

# %%
from medsegdiff_auto.phantoms.phantom import PhantomKind, generate_phantom

KIND = PhantomKind(dimension=2, num_structures=1, shape=(SIDE, SIDE), shape_variation=0.0, lobe_probability=0.35,
                   size_spreads=(0.05, 0.1))
phantoms = [generate_phantom(seed, KIND) for seed in range(NUM_CASES)]
shown, annotator = phantoms[-1], np.random.default_rng(3)
annotations = np.stack([shown.posterior.sample(annotator) for _ in range(1000)])
p = shown.posterior.probabilities()[1]
assert np.abs(annotations.mean(0) - p).max() < 5 * np.sqrt(0.25 / 1000)  # five standard deviations of a share
maps({"one image": ("share", [*annotations[:5], p])}, images=[shown.image],
     titles=["image", *(f"annotator {k}" for k in range(1, 6)), "P(v in M)"])

# %% [markdown]
# **Look at** the lobe: each annotator has all of it or nothing, while the map of probabilities has 0.35 there, which
# no annotator ever drew.
#
# **Change** `lobe_probability` to 0.9.

# %% [markdown]
# ## 2. The mask as a state
#
# $$x_0 = 2y - 1$$
#
# `diffusion.state.state_from_regions`. Diffusion moves real numbers. A mask $y$ becomes one channel per class or
# region, $-1$ outside and $+1$ inside.

# %%
from medsegdiff_auto.diffusion.state import state_from_regions

images = torch.tensor(np.stack([(one.image - one.image.mean()) / one.image.std() for one in phantoms]))
drawn = np.stack([one.posterior.sample(annotator)[None] for one in phantoms])  # one annotation per image, as in life
x_start = state_from_regions(torch.tensor(drawn))
training, held_out = range(NUM_CASES - NUM_HELD_OUT), range(NUM_CASES - NUM_HELD_OUT, NUM_CASES)
assert torch.equal(x_start[torch.tensor(drawn) == 1].unique(), torch.tensor([1.0]))
assert abs(x_start.mean().item() - (2 * drawn.mean() - 1)) < 1e-6
maps({"image": ("image", images[:6]), "state $x_0$": ("state", x_start[:6])})

# %% [markdown]
# **Look at** how the images differ and how alike the masks are in kind: the network has to find out where, not what.
#
# **Change** the `6` in both rows to see more of the training set.

# %% [markdown]
# ## 3. The forward process
#
# $$x_t = \alpha_t x_0 + \sigma_t \varepsilon, \qquad \alpha_t^2 + \sigma_t^2 = 1$$
#
# `diffusion.process.q_sample` (Ho et al. 2020, eq. 4). The state is mixed with standard normal noise. At $\alpha = 0$
# nothing of the mask is left, and that is where drawing a mask will begin.

# %%
from medsegdiff_auto.diffusion.process import noise_from_x_start, q_sample

alpha = torch.tensor([1.0, 0.9, 0.6, 0.3, 0.1, 0.0], dtype=torch.float64)
sigma = (1 - alpha ** 2).sqrt()
mask = x_start[-1:].double().expand(6, -1, -1, -1)
noise = torch.randn(mask[:1].shape, generator=generator, dtype=torch.float64).expand_as(mask)
x_t = q_sample(mask, noise, alpha, sigma)
assert torch.allclose(x_t[2], 0.6 * mask[2] + 0.8 * noise[2], atol=1e-12)
assert torch.allclose(noise_from_x_start(mask, x_t, alpha, sigma)[1:], noise[1:], atol=1e-12)
maps({"state $x_t$": ("signed", x_t)}, titles=[rf"$\alpha$ = {one:g}" for one in alpha.tolist()])

# %% [markdown]
# **Look at** $\alpha = 0.3$: each pixel alone says next to nothing, and yet the eye finds the organ, because it
# averages.
#
# **Change** the `0.1` to 0.2 and find the $\alpha$ at which you would no longer see anything.

# %% [markdown]
# ## 4. The noise schedule
#
# $$\lambda_t = \log\frac{\alpha_t^2}{\sigma_t^2} = -2\log\tan\frac{\pi t}{2}, \qquad
#   \alpha_t^2 = \mathrm{sigmoid}(\lambda_t)$$
#
# `diffusion.schedules.cosine_log_snr`, `diffusion.schedules.alpha_sigma` (Hoogeboom et al. 2023, section 3.1). A
# schedule says how much noise there is at which time $t$, from 0 (the mask) to 1 (noise). MedSegDiff has the linear
# one of Ho et al. 2020, $\alpha_i^2 = \prod_{j \le i}(1 - \beta_j)$ (`diffusion.schedules.linear_log_snr`); the cosine
# spends more time where something is left to see.

# %%
from medsegdiff_auto.diffusion.schedules import Schedule

t = torch.linspace(0.01, 1, 100, dtype=torch.float64)
linear, cosine = Schedule("linear"), Schedule("cosine")
assert torch.allclose(cosine.alpha_sigma(t)[0], torch.cos(torch.pi * t / 2), atol=1e-12)
betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
assert torch.allclose(linear.alpha_sigma(t)[0] ** 2, torch.cumprod(1 - betas, 0)[9::10], atol=1e-12)
by_name = {"linear (MedSegDiff)": linear, "cosine": cosine}
curves({"What is left of the mask": ("t", r"$\alpha_t$", {name: (t, law.alpha_sigma(t)[0])
                                                        for name, law in by_name.items()}),
        "Log signal-to-noise ratio": ("t", r"$\lambda_t$", {name: (t[:-1], law.log_snr(t)[:-1])
                                                            for name, law in by_name.items()})})

# %% [markdown]
# **Look at** the linear schedule after $t = 0.6$: a third of all training times shows the network next to pure noise.
#
# **Change** the last $\beta$, 0.02, to 0.01: the assertion tells that this is another schedule.

# %% [markdown]
# ## 5. The shift: a large structure survives more noise
#
# $$\lambda_t = -2\log\tan\frac{\pi t}{2} + \sum_i \log\frac{\mathrm{ref}}{d_i}$$
#
# `diffusion.schedules.log_snr_shift`. Whoever averages over a structure of $d \times d$ pixels divides the noise by
# $d$. The sign of that mean is right with probability $\Phi(d\,\alpha_t / \sigma_t)$: for a large structure until
# shortly before the end. The shift takes the advantage away, so that every size is as hard at the same $t$.

# %%
from medsegdiff_auto.diffusion.schedules import log_snr_shift

REFERENCE, DIAMETERS = 5.0, (5, 20, 80)
normal, times = torch.distributions.Normal(0.0, 1.0), torch.linspace(0.4, 1, 100, dtype=torch.float64)
right = {}
for d in DIAMETERS:
    for name, shift in (("{0} x {0} pixels", 0.0), (".{0} x {0} pixels, shifted", log_snr_shift((d, d), REFERENCE))):
        alpha, sigma = Schedule("cosine", shift).alpha_sigma(times)
        right[name.format(d)] = times, normal.cdf(d * alpha / sigma)
alpha, sigma = (one.item() for one in cosine.alpha_sigma(torch.tensor(0.97)))
means = alpha + sigma * torch.randn(20000, 400, generator=generator).mean(1)  # 20 x 20 pixels of x_0 = 1, 20,000 times
assert abs((means > 0).double().mean() - normal.cdf(torch.tensor(20 * alpha / sigma))) < 5 * (0.25 / 20000) ** 0.5
assert all(torch.allclose(right[f".{d} x {d} pixels, shifted"][1], right["5 x 5 pixels"][1]) for d in DIAMETERS)
del right[".5 x 5 pixels, shifted"], right[".20 x 20 pixels, shifted"]  # they lie on the last one
curves({"Inside or outside, told by averaging": ("t", "share that is right", right)})

# %% [markdown]
# **Look at** the curve of 80 x 80 pixels without a shift: up to $t = 0.9$ there is nothing to learn but averaging.
# With the shift all three sizes follow one curve.
#
# **Change** `REFERENCE` to 20 and see when the network would have to begin to look at the image.

# %% [markdown]
# ## 6. FF-Parser: a filter that the network learns
#
# $$m' = \mathcal{F}^{-1}\left(A \cdot \mathcal{F}(m)\right)$$
#
# `networks.ff_parser.FFParser` (arXiv 2211.00611, eq. 5 and 6). The features of a noisy mask are mostly noise, and
# noise has all frequencies while a mask has low ones. $A$ has one learned complex number per channel and frequency.
# Here it learns alone to bring $x_t$ back to $x_0$.

# %%
from medsegdiff_auto.networks.ff_parser import FFParser

parser, wave = FFParser(dimension=2, channels=1), torch.cos(2 * torch.pi * 5 * torch.arange(SIDE) / SIDE)
wave = wave.expand(1, 1, SIDE, SIDE)  # 5 periods across: a frequency of 5 / SIDE
assert torch.allclose(parser(wave), wave, atol=1e-5)  # A = 1 in the beginning
parser.filter_real.data *= torch.linspace(1, 0, 5)  # A = 1 - 2 |f| along the last axis
assert torch.allclose(parser(wave), (1 - 2 * 5 / SIDE) * wave, atol=1e-5)
noisy = 0.5 * x_start + 0.75 ** 0.5 * torch.randn(x_start.shape, generator=generator)
optimizer = torch.optim.Adam(parser.parameters(), lr=0.1)
for _ in range(100):
    loss = (parser(noisy) - x_start).square().mean()
    optimizer.zero_grad(), loss.backward(), optimizer.step()
filtered, a = parser(noisy).detach(), parser.filter_at((SIDE, SIDE)).abs().detach()
assert loss < 0.3 * (noisy - x_start).square().mean() and a[0, 0, 0] > 3 * a[0, SIDE // 2, -1]
maps({"$x_t$": ("signed", noisy[-4:]), "filtered": ("signed", filtered[-4:]),
      "$|A|$, frequency 0\nat the left, middle": ("share", [torch.fft.fftshift(a, dim=1)])})

# %% [markdown]
# **Look at** $|A|$: only the frequencies near 0 pass, and the filtered state shows the organ without any other layer.
#
# **Change** the signal `0.5` to 0.1 (and `0.75` to 0.99): the noisier the state, the narrower the filter.

# %% [markdown]
# ## 7. Dynamic conditional encoding: the image is seen through the mask
#
# $$\mathcal{A}(m_I, m_x) = \left(\mathrm{LN}(m_I) \cdot \mathrm{LN}(m_x)\right) \cdot m_I$$
#
# `networks.dynamic_encoding.attentive_fusion` (arXiv 2211.00611, eq. 3 and 4). At every resolution the image's
# features $m_I$ are weighted by where they agree with the mask's features $m_x$, which have passed the FF-Parser. As
# the mask becomes clearer from step to step, other parts of the image count. Here the features are the image and the
# state themselves.

# %%
from medsegdiff_auto.networks.dynamic_encoding import attentive_fusion, layer_norm

norm, m_image = layer_norm(1), images[-1:]
alpha = torch.tensor([0.1, 0.3, 0.6, 1.0], dtype=torch.float64)
noise = torch.randn(4, 1, SIDE, SIDE, generator=generator)
with torch.no_grad():
    m_mask = parser(q_sample(x_start[-1:].expand_as(noise), noise, alpha, (1 - alpha ** 2).sqrt()))
    fused = [attentive_fusion(m_image, norm(m_image), norm(one[None])) for one in m_mask]
    of_flat_mask = attentive_fusion(m_image, norm(m_image), norm(torch.full_like(m_image, 3.0)))
standard = lambda m: (m - m.mean()) / m.std(correction=0)
assert torch.allclose(fused[2], standard(m_image) * standard(m_mask[2]) * m_image, atol=1e-3)
assert of_flat_mask.abs().max() < 1e-3  # no mask, no image: why preset auto adds m_I beside the fusion
maps({"$m_I$": ("signed", [m_image] * 4), "$m_x$": ("signed", m_mask), "fused": ("signed", fused)},
     titles=[rf"$\alpha$ = {one:g}" for one in alpha.tolist()])

# %% [markdown]
# **Look at** the right column: bright image inside of the mask comes out strongly positive, the dark corners outside
# strongly negative, and what is neither goes to 0. With a mask of noise (left) the same image says nothing.
#
# **Change** the constant `3.0` of the flat mask: the fusion stays 0, as a layer norm takes any constant away.

# %% [markdown]
# ## 8. The time embedding
#
# $$e(t) = \left(\cos 1000\,t\,\omega_j,\ \sin 1000\,t\,\omega_j\right), \qquad \omega_j = 10000^{-j / n}$$
#
# `networks.time_embedding.sinusoids` (Ho et al. 2020). The network has to know how much noise to expect. Every
# residual block is told by a vector in which near times are near and far times are told apart.

# %%
from medsegdiff_auto.networks.time_embedding import sinusoids

t = torch.linspace(0, 1, 1001, dtype=torch.float64)
e = sinusoids(t, 64).double()
frequencies = 10000.0 ** (-torch.arange(32, dtype=torch.float64) / 32)
similarity = e @ e[500] / 32
assert torch.allclose(similarity, torch.cos(1000 * (t[:, None] - 0.5) * frequencies).mean(1), atol=1e-3)
curves({"Three of the 64 numbers": ("t", "", {f"j = {j}": (t, e[:, j]) for j in (12, 15, 18)}),
        "How alike are e(t) and e(0.5)?": ("t", "cosine of their angle", {"": (t, similarity)})})

# %% [markdown]
# **Look at** the right: the likeness depends on the distance in time alone, $\sum_j \cos 1000 (t - s) \omega_j$.
#
# **Change** the `500` to 100: the peak moves to $t = 0.1$ and keeps its shape.

# %% [markdown]
# ## 9. The network: two encoders and a decoder
#
# $$\varepsilon_\theta(x_t, I, t) = D\left((E^I_t + E^x_t),\ t\right)$$
#
# `networks.paper.PaperDenoiser` (arXiv 2211.00611). One encoder reads the image, one the noisy mask; they meet at
# every stage by step 7, and their sum goes through the decoder. `planning.presets` has the whole method as one file,
# `paper`.

# %%
from torch import nn
from dynamic_network_architectures.architectures.unet import PlainConvUNet

from medsegdiff_auto.diffusion.configuration import section_of_preset
from medsegdiff_auto.networks.build import build_network
from medsegdiff_auto.planning.presets import load_preset

DIAMETER_VOX = 2 * (float(drawn.mean()) * SIDE ** 2 / np.pi) ** 0.5
STAGES = dict(conv_op=nn.Conv2d, kernel_sizes=[(3, 3)] * 3, strides=[(1, 1), (2, 2), (2, 2)], n_stages=3,
              features_per_stage=(16, 32, 64), n_conv_per_stage=2, n_conv_per_stage_decoder=2, conv_bias=True,
              norm_op=nn.InstanceNorm2d, norm_op_kwargs={"eps": 1e-5, "affine": True}, nonlin=nn.LeakyReLU)


def network_of(preset, num_inputs=1, changes=(), **derived):  # nnU-Net's U-Net is auto's conditioner
    derived |= dict(structure_diameter_vox=(DIAMETER_VOX,) * 2, num_mirrors=1)
    plan = section_of_preset(load_preset(preset), "regions", **derived).changed(**dict(changes))
    return build_network(PlainConvUNet(num_inputs, num_classes=1, **STAGES), 1, plan, False, num_inputs)


# %%
OF_PAPER = dict(first_stage=0, features_per_stage=(8, 16, 32), num_steps=NUM_STEPS)
paper = network_of("paper", **OF_PAPER)
seen, parts = {}, dict(paper.denoiser.named_modules())
for name in ("attention", *(f"{part}.{stage}" for part in ("fusion", "mask_encoder") for stage in range(3))):
    parts[name].register_forward_hook(lambda _, given, returned, name=name: seen.update({name: (given[0], returned)}))
with torch.no_grad():
    predicted = paper.denoiser(x_start[-4:], torch.full((4,), 0.5), paper.condition(images[-4:]))
assert torch.equal(seen["attention"][0], seen["fusion.2"][1] + seen["mask_encoder.2"][1])  # E^I + E^x
assert predicted.abs().max() == 0  # the head begins at zero, so that the first loss is known: step 10
rows = {name: ("feature", [seen[f"{part}.{stage}"][1][-1, 1] for stage in range(3)])
        for name, part in (("$E^x$", "mask_encoder"), ("$E^I$, fused", "fusion"))}
maps(rows | {"$E^I + E^x$": ("feature", [None, None, seen["attention"][0][-1, 1]])},
     titles=[f"{SIDE >> stage} x {SIDE >> stage}" for stage in range(3)])

# %% [markdown]
# **Look at** the resolution: from stage to stage a position stands for more of the image, and at the last one there
# are so few that attention to all others is cheap.
#
# **Change** `features_per_stage` to (16, 32, 64): four times the weights.

# %% [markdown]
# ## 10. The loss
#
# $$L = \left|\varepsilon - \varepsilon_\theta(x_t, I, t)\right|^2$$
#
# `diffusion.losses.mse` (arXiv 2211.00611). The network is asked which noise was added. Two answers are known without
# any network. 0 costs 1, the variance of the noise. The best answer that looks at each pixel alone knows that $x_0$ is
# $\pm 1$ and how often: $\hat x_0 = \tanh(\alpha x_t / \sigma^2 + \frac{1}{2} \log\frac{q}{1 - q})$ with $q$ the share
# of the organ. What lies below that curve has to come from the neighbours and from the image.

# %%
from medsegdiff_auto.diffusion.losses import mse
from medsegdiff_auto.diffusion.process import output_from_x_start

q, times = torch.tensor(drawn.mean()), torch.linspace(0.02, 1, 50, dtype=torch.float64)


def loss_of_single_pixels(law, asked_for, gain=1.0):
    draws, (alpha, sigma) = torch.Generator().manual_seed(1), law.alpha_sigma(times)
    x_0 = 2 * torch.bernoulli(q.expand(50, 1, 64, 64), generator=draws) - 1
    x_t = q_sample(x_0, torch.randn(x_0.shape, generator=draws, dtype=torch.float64), alpha, sigma)
    a, s = (one.reshape(-1, 1, 1, 1) for one in (alpha, sigma))
    best = torch.tanh(gain * a * x_t / s ** 2 + torch.logit(q) / 2)
    answers = (output_from_x_start(one, x_t, alpha, sigma, asked_for) for one in (best, x_0))
    return torch.stack([mse(*pair) for pair in zip(*answers)])


# %%
single, zeros = loss_of_single_pixels(linear, "noise"), torch.zeros(10 ** 6)
assert abs(mse(zeros, torch.randn(10 ** 6, generator=generator)) - 1) < 5 * (2 / 10 ** 6) ** 0.5
assert all(single.mean() < loss_of_single_pixels(linear, "noise", gain).mean() for gain in (0.8, 1.2))
curves({"What is known before any training": ("t", "loss", {
    "answer 0": (times, torch.ones(50)), "best answer, pixel by pixel": (times, single)})})

# %% [markdown]
# **Look at** both ends: near $t = 1$ the state is the noise and the answer is trivial, which is why a small loss there
# says little about the mask.
#
# **Change** the gain of 0.8 in the assertion to 0.99: even then the formula wins, by less.

# %% [markdown]
# ## 11. Asking for v
#
# $$v = \alpha_t \varepsilon - \sigma_t x_0, \qquad
#   \hat x_0 - x_0 = -\frac{\sigma_t}{\alpha_t} (\hat\varepsilon - \varepsilon) = -\sigma_t (\hat v - v)$$
#
# `diffusion.process.velocity` (Salimans and Ho 2022, section 4; Hoogeboom et al. 2023 use it). A mask is read off a
# predicted noise by dividing by $\alpha_t$, which is 0.006 at the end of the linear schedule: an error of the network
# becomes 160 times as large where drawing begins. It is never enlarged when the network is asked for $v$. A minute of
# training is too short for that; what learns below is MedSegDiff's network, asked for $v$ on the shifted cosine
# schedule.

# %%
from medsegdiff_auto.diffusion.process import velocity, x_start_from_output

x_0, error = mask[:1].expand(50, -1, -1, -1), 0.01
noise = torch.randn(x_0.shape, generator=generator, dtype=torch.float64)
enlarged = {}
for name, law, asked_for in (("noise", linear, "noise"), ("v", linear, "v"), ("v, cosine", cosine, "v")):
    alpha, sigma = law.alpha_sigma(times)
    x_t = q_sample(x_0, noise, alpha, sigma)
    answer = velocity(x_0, noise, alpha, sigma) if asked_for == "v" else noise
    found = x_start_from_output(answer + error, x_t, alpha, sigma, asked_for)
    enlarged[name] = (times, (found - x_0).abs().mean((1, 2, 3)) / error)
    assert torch.allclose(enlarged[name][1], sigma if asked_for == "v" else sigma / alpha, rtol=1e-6, atol=1e-6)
curves({"An error of the network in the mask": ("t", "times as large", enlarged)}, logarithmic="y")

# %% [markdown]
# **Look at** $t = 0.8$: a network that is off by 0.01 gives a mask that is off by 0.3 if it is asked for noise.
#
# **Change** `error` to 0.1: the curves stay, as the answers are linear.

# %% [markdown]
# ## 12. One training step
#
# $$\theta \leftarrow \theta - \eta\,\nabla_\theta L, \qquad L(\theta - \eta \nabla L) \approx L - \eta\,|\nabla L|^2$$
#
# `diffusion.objective.denoiser_loss`, `diffusion.process.uniform_times` (Kingma et al. 2021: $t$ uniform, one draw
# spread over the batch). A batch of images, a mask each, a random time, new noise; then a step downhill.

# %%
from medsegdiff_auto.diffusion.objective import denoiser_loss
from medsegdiff_auto.diffusion.process import uniform_times


def loss_of_batch(network, rows, seed):
    torch.manual_seed(seed)
    times = uniform_times(len(rows)) if network.configuration.network.sees_state else torch.ones(len(rows))
    step = network(images[rows], x_start[rows], times.tolist(), torch.randn(x_start[rows].shape))
    return denoiser_loss(step.output, x_start[rows], step.x_t, step.log_snr, network.configuration), step


# %%
paper = network_of("paper", changes=dict(schedule="cosine", parameterisation="v", reference_vox=5.0), **OF_PAPER)
weights, rates = list(paper.denoiser.parameters()), np.array([0, 0.002, *np.linspace(0.03, 0.4, 11)])
loss, _ = loss_of_batch(paper, list(range(8)), seed=0)
downhill = torch.autograd.grad(loss, weights)
found, slope = [], sum(one.square().sum() for one in downhill).item()
for rate in rates:
    with torch.no_grad():
        torch._foreach_add_(weights, downhill, alpha=-rate)
        found.append(loss_of_batch(paper, list(range(8)), seed=0)[0].item())
        torch._foreach_add_(weights, downhill, alpha=rate)
assert abs(found[0] - 1) < 0.05  # the answer is 0, and v has variance 1
parabola = found[0] - slope * rates + (found[1] - found[0] + slope * rates[1]) * (rates / rates[1]) ** 2
assert abs((found[0] - found[1]) / (rates[1] * slope) - 1) < 0.02 and np.allclose(found, parabola, atol=0.05)
curves({"The same batch after a step": (r"$\eta$", "loss", {
    "loss": (rates, found), "its tangent": (rates[:7], found[0] - slope * rates[:7])})})

# %% [markdown]
# **Look at** where the curve leaves its tangent: a longer step gains less than the gradient promises, then nothing,
# then it loses. As the head begins at zero the loss is a parabola here.
#
# **Change** the last rate, 0.4, to 1: the loss is above where it began.

# %% [markdown]
# ## 13. A training of a minute
#
# $$\bar\theta \leftarrow \beta\bar\theta + (1 - \beta)\theta$$
#
# `training.ema.ema_decay` (Karras et al. 2024). The step of before some hundred times, on one annotation per image.
# The average $\bar\theta$ of the weights is what predicts.

# %%
from medsegdiff_auto.diffusion.losses import anchor_loss
from medsegdiff_auto.training.ema import EMA, ema_decay


def train(network, num_steps, rate, batch_size=8):
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate)
    average, losses, draws = EMA(network, num_steps, relative_length=0.05), [], torch.Generator().manual_seed(0)
    for number in range(num_steps):
        optimizer.param_groups[0]["lr"] = rate * (1 - number / num_steps) ** 0.9
        rows = torch.randint(len(training), (batch_size,), generator=draws).tolist()
        loss, step = loss_of_batch(network, rows, seed=number)
        losses.append(loss.item())
        whole = loss + (anchor_loss(step.logits[0], x_start[rows], "regions") if step.logits else 0)
        optimizer.zero_grad(), whole.backward(), nn.utils.clip_grad_norm_(network.parameters(), 12), optimizer.step()
        average.update(network)
    return average.network.eval(), np.convolve(losses, np.ones(min(20, num_steps)) / min(20, num_steps), "valid")


# %%
assert abs(ema_decay(1000, 500, 0.05) - (1 - 1 / 25)) < 1e-12  # beta: a mean over 5 % of 500 steps
paper, losses = train(paper, ITERATIONS, rate=2e-3)
single = loss_of_single_pixels(paper.schedule, "v")
assert IS_SMALL or losses[-1] < 0.5 * single.mean()  # it looks at the neighbours and at the image
curves({"Training of MedSegDiff's network": ("iteration", "loss, mean of 20", {
    "network": (range(len(losses)), losses), "best answer, pixel by pixel": ([0, len(losses)], [single.mean()] * 2)})})

# %% [markdown]
# **Look at** the distance between the lines: what the neighbours and the image tell. The loss never comes to 0,
# because the noise hides some of the mask and the image does not tell which of its masks it is.
#
# **Change** `relative_length` to 0.5, a longer average: smoother, and in so short a training too late.

# %% [markdown]
# ## 14. The reverse process
#
# $$x_s = \alpha_s \hat x_0 + \sqrt{\sigma_s^2 - d^2}\,\hat\varepsilon + d z$$
#
# `diffusion.solvers.ddim.ddim_step` (Song et al. 2021, eq. 12 and 16). From pure noise back to a mask: predict $x_0$,
# go a little of the way, ask again. With $d = 0$ nothing new is drawn (DDIM); the mask then depends on the first noise
# alone.

# %%
from medsegdiff_auto.diffusion.solver import Step
from medsegdiff_auto.diffusion.solvers.ddim import ddim_step

t, s = torch.tensor(0.7, dtype=torch.float64), torch.tensor(0.3, dtype=torch.float64)
x_t, at_s = (q_sample(mask[:1], noise[:1].double(), *linear.alpha_sigma(time[None])) for time in (t, s))
assert torch.allclose(ddim_step(Step(x_t, mask[:1], t, s, linear)), at_s, atol=1e-9)  # who knows x_0 follows q_sample
states, guesses = [], []
with torch.no_grad():
    first_noise = torch.randn(1, 1, SIDE, SIDE, generator=generator, dtype=torch.float64)
    paper.sample_probabilities(paper.condition(images[-1:]), first_noise, NUM_STEPS,
                               observe=lambda t, x_t, x_0: (states.append(x_t[0]), guesses.append(x_0[0])))
chosen = [round(one * (NUM_STEPS - 1)) for one in (0, 0.2, 0.4, 0.6, 0.8, 1)]
maps({"state $x_t$": ("signed", [states[k] for k in chosen]),
      r"predicted $\hat x_0$": ("state", [guesses[k] for k in chosen])},
     titles=[f"t = {1 - k / NUM_STEPS:.2f}" for k in chosen], outline=p > 0.5)

# %% [markdown]
# **Look at** $\hat x_0$: at first a blurred mean of all masks that the image allows, in the end one mask. The line is
# where the true probability is 0.5.
#
# **Change** the seed of `torch.Generator()` in the first cell: other noise, another mask.

# %% [markdown]
# ## 15. Few steps
#
# $$x_s = \frac{\sigma_s}{\sigma_t} x_t - \alpha_s \left(e^{-h} - 1\right) D, \qquad
#   D = \left(1 + \tfrac{1}{2r}\right)\hat x_0 - \tfrac{1}{2r}\hat x_0^{\text{before}}$$
#
# `diffusion.solvers.dpm_solver_pp_2m.dpm_solver_pp_2m_step` (Lu et al. 2022, algorithm 2). Each step costs a run of
# the network. Where $x_0$ is normal with standard deviation $s$, the best prediction is known, and so is what a
# sampler should give: $s$. How many steps does that take?

# %%
from medsegdiff_auto.diffusion.sampling import WHOLE, OneBlock, sample
from medsegdiff_auto.tables import SOLVERS

DEVIATION, COUNTS = 0.5, [2, 4, 8, 16, 32, 64, 128]


def drawn_deviation(num_steps, solver):
    states = OneBlock(torch.tensor([0.0, 1.0], dtype=torch.float64).reshape(2, 1, 1, 1))  # the sampler is linear

    def predict(_step, t):
        alpha, sigma = cosine.alpha_sigma(t)
        yield WHOLE, alpha * DEVIATION ** 2 / (alpha ** 2 * DEVIATION ** 2 + sigma ** 2) * states.read()

    sample(states, predict, num_steps, SOLVERS.row(solver), cosine, lambda *_: None, lambda x: x, OneBlock)
    return (states.read()[1] - states.read()[0]).item()


# %%
errors = {solver: [abs(drawn_deviation(n, solver) - DEVIATION) for n in COUNTS]
          for solver in ("ddim", "dpm_solver_pp_2m")}
assert abs(np.log2(errors["ddim"][-2] / errors["ddim"][-1]) - 1) < 0.1  # twice the steps, half the error
assert errors["dpm_solver_pp_2m"][3] < errors["ddim"][-1]  # 16 steps of second order beat 128 of first order
curves({"Error of the spread of what is drawn": ("steps", "|deviation - 0.5|", {
    f".{solver}": (COUNTS, one) for solver, one in errors.items()})}, logarithmic="xy")

# %% [markdown]
# **Look at** the slope of DDIM: twice the steps, half the error. The solver of second order is there with 16 (its dip
# is where the error changes sign).
#
# **Change** `DEVIATION` to 1, noise as the target: both come closer.

# %% [markdown]
# ## 16. A mean is not a sample
#
# $$\mathbb{E}|Y - m|^2 = \sum_v p_v (1 - p_v), \qquad \mathbb{E}|Y - S|^2 = 2 \sum_v p_v (1 - p_v)$$
#
# The first is for the mean map $m = p$, the second for an independent sample $S$ from the truth itself. Any squared
# error, and cross-entropy too, is twice as content with the blurred mean. A network that predicts $x_0$ from pure
# noise in one step is asked for that mean, and one with few steps hardly leaves it.

# %%
truth, lobe = annotations.astype(np.float64), shown.posterior.lobe_mask & (p < 0.4)  # what is nothing but lobe
doubt = (p * (1.0 - p)).sum()
to_mean = ((truth - p) ** 2).sum((1, 2)).mean()
to_sample = ((truth[::2] - truth[1::2]) ** 2).sum((1, 2)).mean()
assert abs(to_mean / doubt - 1) < 0.1 and abs(to_sample / (2 * doubt) - 1) < 0.1
share = truth[:, lobe].mean(1)
heights, edges = np.histogram(share, bins=np.linspace(0, 1, 21))
assert abs((share > 0.8).mean() - 0.35) < 5 * (0.25 / 1000) ** 0.5 and ((share > 0.2) & (share < 0.8)).mean() < 0.1
curves({"How much of the lobe is marked?": ("share of its pixels", "annotators of 1000", {
    "annotations": (np.repeat(edges, 2)[1:-1], np.repeat(heights, 2)),
    "mean map": ([p[lobe].mean()] * 2, [0, heights.max()])})})

# %% [markdown]
# **Look at** the line of the mean map: it says a third of the lobe, and there is no annotator.
#
# **Change** the 0.35 of `lobe_probability` in step 1 to 0.5: the line moves to the middle, the annotators do not.

# %% [markdown]
# ## 17. A proper score
#
# $$L = \frac{1}{m} \sum_j d(S_j, Y) - \frac{1}{m (m - 1)} \sum_{j<k} d(S_j, S_k)$$
#
# `diffusion.energy_score.energy_score` (Gneiting and Raftery 2007; De Bortoli et al. 2025). Draw several masks for one
# image. They have to be near the reference, and are rewarded for lying apart. In one pixel that an annotator marks
# with probability $p$ and the method with $q$, the expected score is $\frac{1}{2} (p - 2pq + q^2)$: smallest at $q =
# p$, and nowhere else.

# %%
from itertools import product

from medsegdiff_auto.diffusion.energy_score import energy_score

P, shares = 0.35, np.linspace(0, 1, 21)
chance = lambda outcome, share: share if outcome else 1 - share
outcomes = [(torch.tensor([a, b]).reshape(2, 1, 1, 1, 1), torch.tensor(y).reshape(1, 1, 1, 1), (a, b, y))
            for a, b, y in product((0.0, 1.0), repeat=3)]
expected = lambda score, q: sum(chance(a, q) * chance(b, q) * chance(y, P) * score(draws, reference)
                                for draws, reference, (a, b, y) in outcomes)
proper = [expected(lambda draws, y: energy_score(draws, y).item(), q) for q in shares]
distance = [expected(lambda draws, y: 0.5 * (draws - y).abs().mean().item(), q) for q in shares]
assert np.allclose(proper, (P - 2 * P * shares + shares ** 2) / 2, atol=1e-6)
assert abs(shares[np.argmin(proper)] - 0.35) < 1e-9 and shares[np.argmin(distance)] == 0
curves({"Which share is best?": ("q, share of samples that mark the pixel", "expected score", {
    "energy score": (shares, proper), "distance to the reference alone": (shares, distance)})})

# %% [markdown]
# **Look at** the distance alone: its best answer is $q = 0$, never. That is the network that says no where 35 % say
# yes.
#
# **Change** `P` to 0.6: the energy score follows, the distance jumps to $q = 1$ (and the assertion says so).

# %% [markdown]
# ## 18. Latent noise
#
# $$\xi_c(v) = \sum_n w_n(v)\, z_{c,n}, \qquad \sum_n w_n(v)^2 = 1, \qquad
#   \ell(\xi) = \ell + \sum_c \xi_c\, g_c$$
#
# `diffusion.smooth_field.SmoothField` (after Monteiro et al. 2020). For several draws of one image something has to
# differ. Preset `auto` moves the logits by smooth normal fields, of which one scale is finer and one is coarser than a
# structure, and learns from the image how much each place gives way ($g_c$).

# %%
from medsegdiff_auto.diffusion.smooth_field import SmoothField, interpolation

distances = {f"nodes {scale:g} d\napart": scale * DIAMETER_VOX for scale in (0.25, 1, 4)}
fields = {name: SmoothField((5, SIDE, SIDE), (distance,) * 2, seed=4) for name, distance in distances.items()}
for distance in distances.values():
    assert torch.allclose(interpolation(SIDE, distance, 0.3).square().sum(1), torch.ones(SIDE), atol=1e-5)
many = SmoothField((4000, SIDE, SIDE), (DIAMETER_VOX,) * 2, seed=5).at((slice(0, SIDE), slice(0, SIDE)))
assert (many.var(0) - 1).abs().max() < 6 * (2 / 4000) ** 0.5  # variance 1 in every pixel
maps({name: ("signed", field.at(field.whole)) for name, field in fields.items()})

# %% [markdown]
# **Look at** the coarsest row: nearly constant over an organ. Such a field makes all of it larger or smaller, or
# switches a lobe as a whole.
#
# **Change** the scale 4 to 0.5: nothing is left that moves an organ as one.

# %% [markdown]
# ## 19. MedSegDiff-Auto: nnU-Net's network, and draws on top of it
#
# $$L = L_{\mathrm{nnU\text{-}Net}}(\ell) + \frac{1}{m} \sum_j d(S_j, Y) - \frac{1}{m (m - 1)} \sum_{j<k} d(S_j, S_k),
#   \qquad S_j = \sigma(\ell(\xi_j))$$
#
# `networks.medsegdiff.MedSegDiff`. The network that nnU-Net plans gives logits and features, the denoiser on top of it
# moves them by latent noise, and the score of step 17 over four draws trains it. A mask costs one run. It is what
# `medsegdiff_train` trains today.

# %%
auto = network_of("auto", first_stage=1, features_per_stage=(16, 32), num_steps=1)
auto, losses = train(auto, ITERATIONS_OF_AUTO, rate=3e-3)


def draw(network, image, count, steps=1, seed=0):
    noise = torch.randn(count, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    with torch.no_grad():
        condition = network.condition(image[None].expand(count, -1, -1, -1))
        return network.sample_probabilities(condition, noise, steps)[:, 0].numpy()


# %%
samples = {"auto": draw(auto, images[-1], 8), "paper": draw(paper, images[-1], 8, NUM_STEPS)}
spread = (samples["auto"] > 0.5).sum((1, 2)).std() / annotations.sum((1, 2)).std()
assert IS_SMALL or 0.3 < spread < 3
maps({"annotators": ("share", annotations[:7]), "auto, 1 step": ("share", samples["auto"][:7]),
      f"paper,\n{NUM_STEPS} steps": ("share", samples["paper"][:7])}, outline=p > 0.5)

# %% [markdown]
# **Look at** the row of `auto`: borders move as a whole, and the lobe comes and goes (the sixth sample), less often
# than with the annotators: with one annotation per image it is the last thing to be learned. The ten steps of `paper`
# give masks that are nearly one mask, and rough.
#
# **Change** the seed of `draw` to 1: other masks, the same distribution.

# %% [markdown]
# ## 20. An ensemble, and its mean without drawing
#
# $$\mathbb{E}\,\sigma(\ell + \textstyle\sum_c \xi_c g_c) \approx
#   \sigma\left(\frac{\ell}{\sqrt{1 + \frac{\pi}{8} \sum_c g_c^2}}\right)$$
#
# `diffusion.expected_mask.expected_probabilities` (MacKay 1992). The mean over many draws is the map of probabilities.
# Few draws make a coarse map; as the logits are linear in the noise, the mean of all of them has a formula.

# %%
from medsegdiff_auto.diffusion.expected_mask import expected_probabilities

logit, gain = torch.meshgrid(torch.linspace(-4, 4, 33), torch.linspace(0, 4, 17), indexing="ij")
xi = torch.linspace(-8, 8, 2001)
weights = torch.exp(-xi ** 2 / 2) / torch.exp(-xi ** 2 / 2).sum()
integral = (torch.sigmoid(logit[..., None] + gain[..., None] * xi) * weights).sum(-1)
formula = expected_probabilities(logit[None, None], [gain[None, None]], "regions")[0, 0]
assert (formula - integral).abs().max() < 0.02
with torch.no_grad():
    expected = auto.expected_probabilities(auto.image_terms(auto.condition(images[held_out]))).numpy()[:, 0]
of_draws = [draw(auto, images[-1], count).mean(0) for count in (1, 8, 8 if IS_SMALL else 256)]
assert IS_SMALL or np.abs(of_draws[-1] - expected[-1]).mean() < 0.01
maps({"P(v in M)": ("share", [*of_draws, expected[-1], p])},
     titles=["1 draw", "8 draws", f"{8 if IS_SMALL else 256} draws", "formula", "true"])

# %% [markdown]
# **Look at** how the draws come to the formula, and what both of them lack beside the true map: as much of the lobe as
# it deserves. A formula tells what the network believes, not what is true.
#
# **Change** the 8 to 32 and see how soon the map settles.

# %% [markdown]
# ## 21. STAPLE
#
# $$W_v = \frac{\pi \prod_j P(D_{jv} \mid 1)}{\pi \prod_j P(D_{jv} \mid 1) + (1 - \pi) \prod_j P(D_{jv} \mid 0)}$$
#
# `decision.decoders.staple.staple` (Warfield et al. 2004). MedSegDiff fuses its samples by STAPLE: it estimates how
# often each rater $j$ is right where there is something and where there is nothing, and weighs their decisions $D_j$
# by that. Here five raters of known quality have looked at one mask.

# %%
from medsegdiff_auto.decision.decoders.staple import staple
from medsegdiff_auto.nnunet.managers import LabelManager

inside, outside = (np.array(one)[:, None, None] for one in ([0.95, 0.9, 0.6, 0.6, 0.6], [0.97, 0.95, 0.9, 0.9, 0.9]))
reference, labels = annotations[0] > 0, LabelManager({"background": 0, "organ": 1}, regions_class_order=None)
is_right = np.random.default_rng(7).random((5, SIDE, SIDE)) < np.where(reference, inside, outside)
raters = np.where(is_right, reference, ~reference)


def fuse(masks):
    return staple(np.stack([1 - masks.mean(0), masks.mean(0)]), masks.astype(np.uint8), labels) > 0


# %%
pi, by_vote, by_staple = raters.mean(), raters.mean(0) > 0.5, fuse(raters)
odds = pi / (1 - pi) * np.where(raters, inside / (1 - outside), (1 - inside) / outside).prod(0)  # W / (1 - W)
wrong = [(one != reference).mean() for one in (by_vote, by_staple)]
assert wrong[1] < 0.7 * wrong[0] and (by_staple != (odds > 1)).mean() < 0.02
maps({"raters": ("mask", raters), "fused": ("mask", [by_vote, by_staple, odds > 1, reference])},
     titles=[f"right in\n{i:.0%}, {o:.0%}" for i, o in zip(inside.flat, outside.flat)])

# %% [markdown]
# **Look at** the second row: majority, STAPLE, the equation if it were told the raters' quality, and the reference.
# Three poor raters outvote two good ones; STAPLE finds out who is good without seeing the reference.
#
# **Change** the three `0.6` to 0.9: with raters of one quality the majority is as good.

# %% [markdown]
# ## 22. One mask from many
#
# $$\hat m = \arg\max_m \frac{1}{S} \sum_s \frac{2\,|m \cap y_s|}{|m| + |y_s|}$$
#
# `decision.decoders.dice.best_dice_mask` (Dai and Li 2023). Who is scored by Dice should hand in the mask with the
# highest expected Dice, which need not be the mean above 0.5, and not STAPLE's. As the true posterior is known, the
# expected Dice of each is too.

# %%
from medsegdiff_auto.decision.decoders.dice import best_dice_mask
from medsegdiff_auto.overlap import pairwise_dice

small = np.random.default_rng(0).random((5, 1, 8)) < 0.5  # five masks of eight pixels: all 256 answers can be tried
every = np.array(list(product((False, True), repeat=8)))[:, None]
best = pairwise_dice(best_dice_mask(small)[None], small).mean()
assert abs(best - pairwise_dice(every, small).mean(1).max()) < 1e-12
masks = draw(auto, images[-1], 32) > 0.5
fused = {"one sample": masks[0], "mean > 0.5": expected[-1] > 0.5,
         "STAPLE": fuse(masks), "best Dice": best_dice_mask(masks), "true P > 0.5": p > 0.5}
score = {name: pairwise_dice(one[None], annotations > 0).mean() for name, one in fused.items()}
assert IS_SMALL or max(score["mean > 0.5"], score["best Dice"]) > score["one sample"]
maps({"fused": ("mask", [*fused.values()])}, titles=[f"{name}\n{score[name]:.3f}" for name in fused], outline=p > 0.5)

# %% [markdown]
# **Look at** the expected Dice below the names: any fusion beats one sample, and none can do much better than the
# truth's own map, because annotators disagree.
#
# **Change** the 32 samples to 4.

# %% [markdown]
# ## 23. Are the probabilities true?
#
# $$\mathrm{ECE} = \sum_b \frac{n_b}{n} \left|\overline{p}_b - \overline{y}_b\right|$$
#
# `evaluation.calibration.reliability`. Pixels that are given 0.35 should be in 35 % of the annotations. With phantoms
# the true probability is known pixel by pixel. Samples are right if the size of an annotation is any of their sizes:
# then its rank among them is uniform.

# %%
from medsegdiff_auto.evaluation.calibration import reliability

true = np.stack([phantoms[k].posterior.probabilities()[1] for k in held_out])
assert reliability(true, true).expected_calibration_error < 1e-9
assert abs(reliability(np.full(100, 0.5), np.full(100, 0.35)).expected_calibration_error - 0.15) < 1e-9
near = (true > 0.01) | (expected > 0.01)
curve = reliability(expected[near], true[near], 10)
drawn_sizes = np.stack([(draw(auto, images[k], 32, seed=k) > 0.5).sum((1, 2)) for k in held_out])
rank = [np.mean(sizes < (phantoms[k].posterior.sample(annotator) > 0).sum())
        for k, sizes in zip(held_out, drawn_sizes) for _ in range(8)]
assert IS_SMALL or curve.expected_calibration_error < 0.1
curves({f"ECE {curve.expected_calibration_error:.3f}": ("predicted", "true", {
            ".auto, held-out phantoms": (curve.mean_confidence, curve.mean_outcome), "true": ([0, 1], [0, 1])}),
        "Ranks of annotations among samples": ("rank", "share of annotations up to it", {
            "auto": (np.sort(rank), np.linspace(0, 1, len(rank))), "uniform": ([0, 1], [0, 1])})})

# %% [markdown]
# **Look at** the right: the curve rises too fast at both ends. Annotations are smaller or larger than all samples more
# often than they should be: the samples are a little too much alike.
#
# **Change** `ITERATIONS_OF_AUTO` in the first cell to 100, and to 2000: too few iterations blur, and with one
# annotation per image too many learn the annotators by heart.

# %% [markdown]
# ## 24. A brain tumour set
#
# The notebook of MedSegDiff trains on slices of brain tumours. `MEDSEGDIFF_BRAIN_TUMOUR` names a raw dataset in
# nnU-Net's format, 2-D or 3-D (`medsegdiff_convert` makes one of BraTS or of the LGG set);
# `explanation.slices.read_slices` takes the slice with the most foreground of each case. Here no posterior is known:
# several raters, or held-out cases, take its place.

# %%
from pathlib import Path

from medsegdiff_auto.explanation.slices import read_slices

raw_folder, picture = os.environ.get("MEDSEGDIFF_BRAIN_TUMOUR"), None
if raw_folder:
    SIDE = 64
    images, masks, held_out = read_slices(Path(raw_folder), SIDE)
    training, x_start = [k for k in range(len(images)) if k not in held_out], state_from_regions(masks)
    DIAMETER_VOX = 2 * (float(masks.mean()) * SIDE ** 2 / np.pi) ** 0.5
    brain = network_of("auto", images.shape[1], first_stage=1, features_per_stage=(16, 32), num_steps=1)
    brain, _ = train(brain, ITERATIONS_OF_AUTO, rate=3e-3)
else:
    print("Skipped: MEDSEGDIFF_BRAIN_TUMOUR names no raw dataset.")

# %%
if raw_folder:
    cases = held_out[::max(1, len(held_out) // 4)][:4]
    rows = {f"case {k}": ("mask", [masks[k], *(draw(brain, images[k], 5) > 0.5)]) for k in cases}
    picture = maps(rows, images=[images[k, 0] for k in cases], titles=["image", "reference", *["sample"] * 5])
picture

# %% [markdown]
# **Look at** where the samples of a case differ: that is the network's doubt about it, and where a person should look.
#
# **Change** the folder to a dataset of your own. What this notebook does in minutes on small slices,
# `medsegdiff_train` does on whole volumes, with nnU-Net's plans, augmentation and folds.
