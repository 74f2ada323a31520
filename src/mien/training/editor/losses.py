"""Losses of the learned editors and of their critics.

`Guided` trains `Corrector` and `Skip` against frozen *guides*: recognisers that alternate between steps and see only
augmented edits; otherwise the editor would learn noise that fools one of them. A guide that is a `mien.methods.meca`
also measures how far an edit lies along the axis of the target expression, and its axes condition the editor. `Star`
trains `StarGenerator` as StarGAN and GANmut do, without a guide: its critic learns the classes.

Beside the guides there can be a *witness*, a frozen face-recognition network: the embedding of an edit is kept near
that of its face. It is MobileFaceNet and not distilled from the judge of identity (`mien.evaluation.editor.judges`),
because a network must not judge an editor that it trained.

Not included, and not tried: a hinge on rho between two strengths (a correction is proportional to the strength by
construction), and targets between two expressions. A request for the expression that a face already shows changes
nothing, also by construction: the correction is multiplied by the size of the change.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from mien.data.transforms import normalise
from mien.editing.corrector import SIDE, fade
from mien.editing.geometry import ACTIVE
from mien.labels import EXPRESSIONS, NEUTRAL
from mien.methods.base import Method, Terms
from mien.methods.baseline import Baseline
from mien.methods.meca import MECA
from mien.training.editor.networks import Corrector, Critic, Skip, StarCritic, StarGenerator, drawn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Float

    from mien.methods.base import Backbone

ADVERSARIAL = 0.5
FLOW = 4.0
"""Weight of a corrector's flow: at equal recognition, flow changes identity twice as much as light does (dlib's
distance, correctors trained for ten minutes with one of the two switched off)."""
LIGHT = 3.0
"""Weight of a corrector's light, which is the most visible part of a correction in a photo."""
IDENTITY = 2.0
"""Weight of 1 - cosine between the witness's embeddings of a face and its edit."""
WITNESSED = 8
"""Largest number of edits per step that the witness sees: it costs as much as the rest of the step."""
WITNESS_SIDE = 80
CONTRAST = 0.3
TEMPERATURE = 0.15
CYCLE = 10.0
RANDOM_ANGLES = 5 / 16
"""Share of GANmut's codes with a random angle between the axes; they have no class."""
JITTER = 0.075
"""Standard deviation of the noise on its other codes."""


class EditedFaces(NamedTuple):
    """Rows of `mien.training.editor.edit_pairs.Bank` as tensors: pictures [n, 1, 64, 64] in 0..1, the rest as there."""

    before: Tensor
    after: Tensor
    change: Tensor
    votes: Tensor
    target: Tensor
    strength: Tensor


class Game(Method):
    """The losses of an editor and its critic, trained in turns; both turns of a step use the same edits."""

    turns: ClassVar[tuple[str, ...]] = ("critic", "editor")
    pretrained: ClassVar[tuple[str, ...]] = ()
    editor: nn.Module
    critic: nn.Module
    _edits: Tensor | None = None

    def forward(self, batch: EditedFaces, turn: str) -> Terms:
        # The critic's turn comes first and does not change the editor, so its edits serve both turns.
        if turn == "critic":
            self._edits = self.edit(batch)
            terms = self.critic_terms(batch, self._edits.detach())
        else:
            edits = self.edit(batch) if self._edits is None else self._edits
            self._edits = None
            terms = self.editor_terms(batch, edits)
        return {f"{turn} {name}": term for name, term in terms.items()}

    def parameters_for(self, turn: str) -> Iterable[nn.Parameter]:
        return self.get_submodule(turn).parameters()

    @abstractmethod
    def edit(self, faces: EditedFaces) -> Tensor:
        """The edits [n, 1, 64, 64] that are requested in the bank."""

    @abstractmethod
    def critic_terms(self, faces: EditedFaces, edits: Tensor) -> Terms:
        """The critic's terms; `edits` are detached."""

    @abstractmethod
    def editor_terms(self, faces: EditedFaces, edits: Tensor) -> Terms:
        """The editor's terms; `edits` are the last result of `edit`."""


def wanted(faces: EditedFaces) -> tuple[Float[Tensor, "n 8"], Float[Tensor, " n"]]:
    """What a guide should read from a correct edit: shares of expressions, and the intensity rho in 0..1."""
    share = faces.strength.clamp(0, 1)[:, None]
    asked = functional.one_hot(faces.target, len(EXPRESSIONS)).float()
    neutral = torch.zeros_like(asked)
    neutral[:, NEUTRAL] = 1
    shares = torch.where(
        (faces.target == NEUTRAL)[:, None],
        share * neutral + (1 - share) * faces.votes,
        share * asked + (1 - share) * neutral,
    )
    return shares, 1 - shares[:, NEUTRAL]


def _emotional(shares: Float[Tensor, "n 8"]) -> Float[Tensor, "n k"]:
    """The columns of `ACTIVE`: all but neutral's."""
    return torch.cat([shares[:, :NEUTRAL], shares[:, NEUTRAL + 1 :]], dim=1)


def size_of(change: Float[Tensor, "n k"]) -> Float[Tensor, " n"]:
    """As `mien.editing.corrector.reach`."""
    return change.abs().sum(dim=1).clamp(max=1)


def disturbed(pictures: Float[Tensor, "n 1 h w"]) -> Float[Tensor, "n 1 h w"]:
    """Pictures randomly turned, scaled, shifted, relit and blurred a little, each on its own: guides see edits this
    way.

    Uses torch's global random generator, as dropout does.
    """
    draw = torch.rand(len(pictures), 8) * 2 - 1
    angle, zoom = draw[:, 0] * math.radians(8), 1 + 0.08 * draw[:, 1]
    mirror = torch.where(draw[:, 2] > 0, 1.0, -1.0)
    cosine, sine = torch.cos(angle) / zoom, torch.sin(angle) / zoom
    matrix = torch.stack(
        [
            torch.stack([mirror * cosine, -sine, 0.08 * draw[:, 3]], dim=1),
            torch.stack([mirror * sine, cosine, 0.08 * draw[:, 4]], dim=1),
        ],
        dim=1,
    )
    where = functional.affine_grid(matrix, list(pictures.shape), align_corners=False)
    seen = functional.grid_sample(pictures, where, padding_mode="border", align_corners=False)
    soft = functional.avg_pool2d(functional.pad(seen, (1, 1, 1, 1), mode="replicate"), 3, 1)
    blur = (0.5 + 0.5 * draw[:, 5])[:, None, None, None]
    seen = blur * soft + (1 - blur) * seen
    contrast, light = (1 + 0.2 * draw[:, 6])[:, None, None, None], (0.1 * draw[:, 7])[:, None, None, None]
    return ((seen - 0.5) * contrast + 0.5 + light).clamp(0, 1)


class Witness:
    """Compares identities on luma windows: the cosine of two faces' embeddings, centred on the mean of many faces.

    Without centring all embeddings point in one direction (cosine 0.86 between people). With it, the distance of edits
    of 17 London people by four editors correlates with dlib's distance by 0.89 (at 64 px 0.65).

    Args:
        network: a face-recognition backbone for pictures of `WITNESS_SIDE`.
        faces: [n, 1, 64, 64] in 0..1 to take the mean of.
    """

    def __init__(self, network: Backbone, faces: Float[Tensor, "n 1 64 64"]) -> None:
        self.network = network.eval().requires_grad_(False)
        with torch.no_grad():
            self._mean = torch.cat([self._features(part) for part in torch.split(faces, 64)]).mean(dim=0)

    def _features(self, pictures: Float[Tensor, "n 1 64 64"]) -> Tensor:
        large = functional.interpolate(pictures, (WITNESS_SIDE, WITNESS_SIDE), mode="bilinear")
        found: Tensor = self.network(normalise(large.expand(-1, 3, -1, -1)))[0]
        return found

    def apart(
        self, first: Float[Tensor, "n 1 64 64"], second: Float[Tensor, "n 1 64 64"]
    ) -> Float[Tensor, " n"]:
        """1 - cosine: about 0.2 for a person neutral and smiling, 1 for two people."""
        own, other = (self._features(part) - self._mean for part in (first, second))
        return 1 - functional.cosine_similarity(own, other, dim=1)


Guide = Baseline | MECA
"""A guide: a recogniser on luma of 64 px with differentiable logits."""


def axes_of(guide: Guide) -> Float[Tensor, "k d"]:
    """The direction of each of `ACTIVE` in the guide's embedding; for a guide without one, the unit vectors."""
    if isinstance(guide, MECA):
        return functional.normalize(guide.axes.detach().float(), dim=1)
    return torch.eye(len(ACTIVE))


class Guided(Game):
    """Trains `Corrector` or `Skip` against frozen guides, a critic and, if given, a witness of identity."""

    editor: Corrector | Skip
    critic: Critic

    def __init__(
        self, editor: Corrector | Skip, guides: Sequence[Guide], witness: Witness | None = None
    ) -> None:
        super().__init__(None, SIDE)
        self.editor, self.critic = editor, Critic()
        # In a plain list, so that they are not trained, saved or put into training mode.
        self.guides = [guide.eval().requires_grad_(False) for guide in guides]
        self.witness = witness
        self._spent: Terms = {}
        self._turn = 0

    def advance(self, step: int) -> None:
        self._turn = step

    def edit(self, faces: EditedFaces) -> Tensor:
        size = size_of(faces.change)
        if isinstance(self.editor, Corrector):
            change = self.editor(torch.cat([faces.before, faces.after], dim=1), faces.change)
            flow, gain = change.flow * size[:, None, None, None], change.gain * size[:, None, None, None]
            bent = flow.diff(dim=2).square().mean() + flow.diff(dim=3).square().mean()
            self._spent = {
                "flow": FLOW * (0.05 * flow.square().mean() + 0.3 * bent),
                "light": LIGHT * (20 * gain.square().mean() + 0.6 * gain.abs().mean()),
            }
            return drawn(faces.after, change, size)
        added: Tensor = self.editor(faces.before, faces.change) * size[:, None, None, None]
        added = added * torch.from_numpy(fade()).to(added)
        self._spent = {"light": 20 * added.square().mean() + 0.6 * added.abs().mean()}
        return (faces.before + added).clamp(0, 1)

    def read(self, pictures: Float[Tensor, "n 1 64 64"]) -> tuple[Tensor, Tensor, Tensor | None]:
        """Readings of the guide used in this step: logits [n, 8], intensity [n] and, of a meca, the cosine to each axis
        [n, k]."""
        guide = self.guides[self._turn % len(self.guides)]
        images = normalise(pictures.expand(-1, 3, -1, -1))
        if isinstance(guide, MECA):
            code = guide.encode(images)
            return code.logits, code.length, code.direction @ axes_of(guide).T
        logits = guide.expression(guide.backbone(images)[0])
        return logits, 1 - logits.softmax(dim=1)[:, NEUTRAL], None

    def critic_terms(self, faces: EditedFaces, edits: Tensor) -> Terms:
        real = functional.relu(1 - self.critic.judge(faces.before, faces.votes)).mean()
        fake = functional.relu(1 + self.critic.judge(edits, wanted(faces)[0])).mean()
        return {"real": real, "fake": fake}

    def editor_terms(self, faces: EditedFaces, edits: Tensor) -> Terms:
        shares, intensity = wanted(faces)
        logits, length, cosine = self.read(disturbed(edits))
        terms = {
            "expression": functional.cross_entropy(logits, shares),
            "intensity": (length - intensity).square().mean(),
            "adversarial": -ADVERSARIAL * self.critic.judge(edits, shares).mean(),
            **self._spent,
        }
        if self.witness is not None:
            some = slice(WITNESSED)
            terms["identity"] = IDENTITY * self.witness.apart(faces.before[some], edits[some]).mean()
        if cosine is not None:
            emotional = faces.target != NEUTRAL
            axis = (faces.target - (faces.target > NEUTRAL).long()).clamp(0, len(ACTIVE) - 1)
            away = functional.cross_entropy(cosine / TEMPERATURE, axis, reduction="none") * emotional
            terms["contrast"] = CONTRAST * away.sum() / emotional.sum().clamp(min=1)
        return terms


class Star(Game):
    """Trains `StarGenerator` and its critic; targets are drawn at random, only faces and votes come from the bank."""

    editor: StarGenerator
    critic: StarCritic

    def __init__(self) -> None:
        super().__init__(None, SIDE)
        self.editor, self.critic = StarGenerator(), StarCritic()
        self._code = torch.zeros(0, 2)

    def edit(self, faces: EditedFaces) -> Tensor:
        self._code = self._draw(faces)  # both turns of a step use the same codes
        drawn_anew: Tensor = self.editor(faces.before, self._code)
        return drawn_anew

    def _draw(self, faces: EditedFaces) -> Tensor:
        """GANmut's codes: on an axis, jittered; the first rows at a random angle; neutral near the origin."""
        strengths = functional.one_hot(faces.target, len(EXPRESSIONS)).float()
        length = faces.strength.clamp(0.2, 1)[:, None]
        code = self.editor.code(_emotional(strengths)) * length
        code = code + JITTER * torch.randn(code.shape)
        free = self._free(len(code))
        angle = torch.rand(free) * 2 * math.pi
        turned = torch.stack([torch.cos(angle), torch.sin(angle)], dim=1) * length[:free]
        return torch.cat([turned, code[free:]])

    @staticmethod
    def _free(n: int) -> int:
        return int(n * RANDOM_ANGLES)

    def critic_terms(self, faces: EditedFaces, edits: Tensor) -> Terms:
        real, classes, _ = self.critic(faces.before)
        fake, _, code = self.critic(edits)
        return {
            "real": functional.relu(1 - real).mean(),
            "fake": functional.relu(1 + fake).mean(),
            "classes": functional.cross_entropy(classes, faces.votes),
            "code": functional.mse_loss(code, self._code.detach()),
        }

    def editor_terms(self, faces: EditedFaces, edits: Tensor) -> Terms:
        patches, classes, code = self.critic(edits)
        free = self._free(len(edits))
        sure = classes[free:].softmax(dim=1).amax(dim=1)
        strong = (faces.target[free:] != NEUTRAL).float()
        back = self.editor(edits, self.editor.code(_emotional(faces.votes)))
        return {
            "adversarial": -patches.mean(),
            "classes": functional.cross_entropy(classes[free:], faces.target[free:]),
            "code": functional.mse_loss(code, self._code),
            "strength": (strong * (sure - faces.strength[free:].clamp(0.2, 1)).square()).mean(),
            "cycle": CYCLE * (back - faces.before).abs().mean(),
        }
