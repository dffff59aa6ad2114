"""The typed form of `params.yaml`: parsed and validated once, frozen, no torch import.

Every number that can change a byte of an output lives here; workers, executor, devices and cache folder do not.
Unknown keys and wrong types are refused before any work, by key, value and what is allowed. Defaults are paper scale;
`params.yaml` states the values of a profile anyway, because DVC sees only what the file says; it need not state
switches that came later than results did (`spec.later`).
"""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from pydantic import AfterValidator, Field, ValidationError, create_model, model_validator

from spasemsr.backends.autoencoder.spec import AutoencoderSpec
from spasemsr.backends.captioner.spec import CaptionerSpec
from spasemsr.backends.grounding.spec import GroundSpec
from spasemsr.backends.restorer.spec import RestorerSpec
from spasemsr.backends.text_encoder.spec import TextEncoderSpec
from spasemsr.config_messages import explain, explained
from spasemsr.data.spec import DataSpec, DegradationSpec
from spasemsr.errors import UserError
from spasemsr.evaluation.spec import AuditSpec, DialSpec, EvaluateSpec
from spasemsr.methods import method, names
from spasemsr.methods.face import Ingredients, Section
from spasemsr.spec import DISTINCT, NUMBER, Fraction, Spec
from spasemsr.students.spec import AnyLearner, with_recogniser, with_students
from spasemsr.training.spec import TrainSpec

ProfileName = Literal["embedded", "probe", "foundation"]


def _known(name: str) -> str:
    if name not in names():
        raise ValueError(f"no such method (there are: {', '.join(names())})")
    return name


MethodName = Annotated[str, AfterValidator(_known)]
_NIQE_SIDE = 192  # px of a square that holds two of its blocks
_OF_METHODS = ("held", "validate_every", "keep_every")  # of a training; a student has none of them


class MethodSections(Spec):
    """`<profile>.methods`: a section for each method there is, checked by the method's own spec, or none."""

    def __getitem__(self, name: str) -> Section:
        """A method's section. Raises UserError for a method that is not there, or has none."""
        section = getattr(self, method(name).name, None)
        if section is None:
            raise UserError(f"params.yaml has no section methods.{name} in this profile.", "Copy one, and adapt it.")
        return section

    def items(self) -> Iterator[tuple[str, Section]]:
        """Names and sections of those that are stated."""
        return ((name, section) for name in names() if (section := getattr(self, name, None)) is not None)


if TYPE_CHECKING:
    Sections = MethodSections
else:
    Sections = create_model(
        "Sections", __base__=MethodSections, **{name: (method(name).section | None, None) for name in names()}
    )


class Profile(Spec):
    """One complete set of backends and sizes."""

    data: DataSpec
    restore: RestorerSpec
    ground: GroundSpec
    caption: CaptionerSpec
    autoencoder: AutoencoderSpec
    text_encoder: TextEncoderSpec
    learners: dict[str, AnyLearner] = Field(default_factory=dict)
    methods: Sections
    train: TrainSpec
    evaluate: EvaluateSpec
    dial: DialSpec = DialSpec()
    audit: AuditSpec = AuditSpec()

    @model_validator(mode="before")
    @classmethod
    def _known(cls, raw: Any) -> Any:
        """A `known` backend knows the scenes of `data`: they are stated there alone."""
        data = raw.get("data") if isinstance(raw, dict) else None
        scenes = data.get("scenes") if isinstance(data, dict) else None
        return raw if scenes is None else _with_scenes(raw, scenes)

    def running(self, names: Collection[str], learners: Collection[str] = ()) -> "Profile":
        """The profile without the sections of other methods and students: what is needed to run these."""
        students = {name: learner for name, learner in self.learners.items() if name in learners}
        kept = {name: section if name in names else None for name, section in self.methods.items()}
        return self.model_copy(update={"methods": self.methods.model_copy(update=kept), "learners": students})

    def train_of(self, name: str) -> TrainSpec:
        """How a method is trained: `train` with what its own section states instead. Raises pydantic's error."""
        return TrainSpec.model_validate({**self.train.plain(), **self.methods[name].train})

    def train_of_learner(self, name: str) -> TrainSpec:
        """How a student is trained, likewise; never from a method's weights, nor on published shards.

        It learns from all samples and is written once, at the end.
        """
        own = {"init": None, "shards": None, **dict.fromkeys(_OF_METHODS, 0), **self.learners[name].train}
        return TrainSpec.model_validate({**self.train.plain(), **own})


def _with_scenes(section: dict[str, Any], scenes: Any) -> dict[str, Any]:
    filled = {key: _with_scenes(value, scenes) if isinstance(value, dict) else value for key, value in section.items()}
    return {"scenes": scenes, **filled} if filled.get("kind") == "known" else filled


class Params(Spec):
    """The whole of `params.yaml`; `active` is the profile in use, and every profile is validated on every load."""

    profile: ProfileName
    photographs: Annotated[str, Field(min_length=1)]
    lambda_: Annotated[Fraction, Field(alias="lambda")]
    seed: Annotated[int, NUMBER]
    scale: Literal[4]
    methods: Annotated[tuple[MethodName, ...], Field(min_length=1), DISTINCT]
    learners: Annotated[tuple[str, ...], DISTINCT] = ()
    degradation: DegradationSpec
    embedded: Profile
    probe: Profile
    foundation: Profile

    @property
    def active(self) -> Profile:
        """The section of the chosen profile."""
        return getattr(self, self.profile)

    def running(self, names: Collection[str]) -> "Params":
        """The params with these methods listed. Raises UserError for one that is not there, or has no section."""
        for name in names:
            self.active.methods[name]
        return self.model_copy(update={"methods": tuple(dict.fromkeys(names))})

    def sections(self, profile: ProfileName | None = None) -> dict[str, Section]:
        """The sections of the methods that are run, in the active profile or another one."""
        of: Profile = getattr(self, profile or self.profile)
        return {name: self._section(of, name, self.learners) for name in self.methods}

    def _section(self, profile: Profile, name: str, learners: Collection[str]) -> Section:
        """A method's section with these students in the places of their teachers. Raises ValueError for a misfit."""
        section = profile.methods[name]
        students = {own: learner for own, learner in profile.learners.items() if own in learners}
        try:
            features = with_students(section.features, getattr(section.model, "input", "lr"), students)
        except ValueError as error:
            raise ValueError(f"methods.{name}: {error}") from None
        return section.model_copy(update={"features": features})

    def ingredients(self, name: str, profile: ProfileName | None = None) -> Ingredients:
        """What a method is made from, in the active profile or another one. Raises UserError as `sections` does."""
        chosen = profile or self.profile
        of: Profile = getattr(self, chosen)
        return Ingredients(
            profile=chosen,
            seed=self.seed,
            scale=self.scale,
            lambda_=self.lambda_,
            patch=of.data.patch,
            variants=of.data.variants,
            section=self._section(of, name, self.learners),
            autoencoder=of.autoencoder,
            text_encoder=of.text_encoder,
            restore=of.restore,
            ground=self.ground(chosen),
            caption=of.caption,
        )

    def ground(self, profile: ProfileName | None = None) -> GroundSpec:
        """How objects are found, areas of like texture by the student that `learners` lists for them, if any.

        Raises ValueError for a student that learns something else.
        """
        of: Profile = getattr(self, profile or self.profile)
        if of.ground.textures is None:
            return of.ground
        textures = with_recogniser(of.ground.textures, of.running((), self.learners).learners)
        return of.ground.model_copy(update={"textures": textures})

    @model_validator(mode="after")
    def _across_sections(self) -> "Params":
        known = _given()
        for name in get_args(ProfileName):
            profile: Profile = getattr(self, name)
            _check_train(profile.train, f"{name}.train")
            timesteps = {own: _timesteps(section) for own, section in profile.methods.items() if own in self.methods}
            _check_evaluate(profile.evaluate, profile.data.val_patch, timesteps, f"{name}.evaluate")
            for own, section in profile.methods.items():
                method(own).check(self.ingredients(own, name))
                if section.train:
                    runs = own in self.methods or "cooldown_steps" in section.train
                    _check_train(_trained(profile, own, name), f"{name}.methods.{own}.train", runs)
                if own in self.methods:
                    self._section(profile, own, self.learners)
            for own, learner in profile.learners.items():
                at = f"{name}.learners.{own}.train"
                if unused := [key for key in _OF_METHODS if learner.train.get(key)]:
                    told = "a student learns from all samples and is written once, at the end; leave this out"
                    raise ValueError(f"{at}.{unused[0]}: {told}")
                runs = own in self.learners or "cooldown_steps" in learner.train
                _check_train(_trained(profile, own, name, learner=True), at, runs)
            for own, learner in profile.learners.items():
                if unknown := [given for given in learner.gives if given not in known]:
                    told = f"no method has such a feature (there are: {', '.join(sorted(known))})"
                    raise ValueError(f"{name}.learners.{own}.gives: {unknown[0]}: {told}")
        if unknown := [own for own in self.learners if own not in self.active.learners]:
            stated = ", ".join(self.active.learners) or "none"
            raise ValueError(f"learners: {unknown[0]} is none of {self.profile}.learners (there are: {stated})")
        sections = [own for own, _ in self.active.methods.items()]
        if missing := [own for own in self.methods if own not in sections]:
            raise ValueError(f"{self.profile}.methods.{missing[0]}: missing, and `methods` lists {missing[0]}")
        return self


def _given() -> set[str]:
    """What a student can give: the features of all methods, and areas of like texture."""
    given = {"textures"}
    for name in names():
        features: Any = method(name).section.model_fields["features"]
        given.update(features.annotation.model_fields)
    return given


def _trained(profile: Profile, own: str, name: str, learner: bool = False) -> TrainSpec:
    try:
        return profile.train_of_learner(own) if learner else profile.train_of(own)
    except ValidationError as error:
        at = f"{name}.{'learners' if learner else 'methods'}.{own}.train"
        said = [f"{at}.{explain(item, TrainSpec)}" for item in error.errors()]
        raise ValueError("; ".join(said)) from None


def _check_train(train: TrainSpec, at: str, runs: bool = True) -> None:
    """What no field can check alone. What does not run may inherit a cooldown that is longer than itself."""
    if train.warmup_steps > train.steps:
        raise ValueError(f"{at}.warmup_steps exceeds {at}.steps, {train.steps}")
    if runs and train.cooldown_steps > train.steps:
        told = f"the learning rate would never reach {at}.lr; lower the first, or raise the second"
        raise ValueError(f"{at}.cooldown_steps, {train.cooldown_steps}, exceeds {at}.steps, {train.steps}: {told}")
    if train.validate_every and not train.held:
        told = f"there is nothing to validate on; raise {at}.held, or set the first to 0"
        raise ValueError(f"{at}.validate_every is {train.validate_every}, but {at}.held is 0: {told}")
    if train.global_batch % train.accumulate:
        raise ValueError(f"{at}.accumulate must divide {at}.global_batch, {train.global_batch}")


def _timesteps(section: Section) -> int | None:
    """How many timesteps a method is trained on; None for one that does not diffuse."""
    return getattr(getattr(section.model, "schedule", None), "num_train_timesteps", None)


def _check_evaluate(spec: EvaluateSpec, val_patch: int, timesteps: dict[str, int | None], at: str) -> None:
    """What scoring would refuse after the training, all of it known from the params alone."""
    sample = spec.sample
    if not spec.metrics:
        raise ValueError(f"{at}.metrics is empty: there would be nothing to report; name at least one")
    if "niqe" in spec.metrics and val_patch < _NIQE_SIDE:
        told = f"niqe needs {_NIQE_SIDE}; raise data.val_patch, or leave niqe out"
        raise ValueError(f"{at}.metrics names niqe, but data.val_patch is {val_patch}: {told}")
    if sample.tile_overlap >= sample.tile:
        raise ValueError(f"{at}.sample.tile_overlap, {sample.tile_overlap}, must be below tile, {sample.tile}")
    if sample.start < 1 and not sample.lre:
        told = "pure noise belongs to the top of the schedule only; set lre: true, or start: 1.0"
        raise ValueError(f"{at}.sample.start, {sample.start:g}, needs lre: {told}")
    for name, count in timesteps.items():
        if count is not None and (span := round(sample.start * count)) < sample.steps:
            told = f"start {sample.start:g} leaves {span} of the {count} timesteps of {name}"
            raise ValueError(f"{at}.sample.steps, {sample.steps}, is too many: {told}")


def load_params(path: Path = Path("params.yaml")) -> Params:
    """Read and validate `params.yaml`.

    Raises UserError naming every offending key, its value and what is allowed.
    """
    import yaml  # kept out of the import of this module: pydantic alone is enough for building specs in code

    try:
        # libyaml where PyYAML has it: every stage reads this file, and in Python that takes a tenth of a second
        raw = yaml.load(path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except FileNotFoundError:
        raise UserError(f"No {path} in {Path.cwd().name}/.", "Run from the project's folder.") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not YAML: {error}", "Correct the line named above.") from None
    return parse_params(raw, str(path))


def parse_params(raw: Any, origin: str) -> Params:
    """Validate parsed YAML; `origin` is the file's name for messages. Raises UserError."""
    try:
        return Params.model_validate(raw)
    except ValidationError as error:
        lines = explained(error.errors(), Params)
        raise UserError(f"{origin}: " + "; ".join(lines), "Correct the values above; nothing was run.") from None
