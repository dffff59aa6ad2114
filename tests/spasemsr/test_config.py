"""`params.yaml`: what is refused, and how it is said."""

import copy
import hashlib
import math
import re

import pytest
import yaml

from spasemsr.config import load_params, parse_params
from spasemsr.data.patches import bucket_of
from spasemsr.errors import UserError
from spasemsr.methods import method, names
from tests.worlds import ROOT

SHIPPED = ROOT / "params.yaml"


@pytest.fixture
def raw() -> dict:
    return yaml.safe_load(SHIPPED.read_text())


def changed(raw: dict, key: str, value: object) -> dict:
    result = copy.deepcopy(raw)
    *parents, last = key.split(".")
    place = result
    for part in parents:
        place = place[part]
    place[last] = value
    return result


def test_the_shipped_file_is_valid_and_states_every_value(raw):
    params = load_params(SHIPPED)
    assert params.lambda_ == raw["lambda"]

    def missing(stated: dict, complete: dict, at: str = "") -> list[str]:
        found = []
        for name, value in complete.items():
            if name not in stated:
                found.append(at + name)
            elif isinstance(value, dict) and isinstance(stated[name], dict):
                found += missing(stated[name], value, f"{at}{name}.")
        return found

    # DVC tracks what the file says: a value that only exists as a default in code could change unseen.
    absent = [key for key in missing(raw, params.plain()) if not key.startswith("degradation.override")]
    assert [
        key for key in absent if not (key.startswith("probe.") and key.endswith(".scenes"))
    ] == []  # of `known` kinds


def test_what_came_later_is_said_where_it_is_not_the_default():
    """So that it changes no name of what was made before it."""
    params = load_params(SHIPPED)
    assert "batch_size" not in params.embedded.evaluate.plain()
    assert params.foundation.evaluate.plain()["batch_size"] == 4


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("lambda", 1.5, "less than or equal to 1"),
        ("lambda", "half", "lambda = 'half'"),
        ("embedded.train.steps", 0, "greater than or equal to 1"),
        ("embedded.train.stepz", 3, "embedded.train.stepz = 3: no such key (allowed: init, shards, steps"),
        ("embedded.train.lr", math.inf, "embedded.train.lr = inf: Input should be a finite number"),
        ("degradation.override", {"noise_range": [math.nan, 20]}, "Input should be a finite number"),
        (
            "degradation.override",
            {"noise_range": [20, 1]},
            "degradation.override.noise_range = [20, 1]: not a range of standard deviations in grey levels, 0 to 255",
        ),
        (
            "degradation.override",
            {"jpeg_range2": [100, 100]},
            "jpeg_range2 = [100, 100]: must begin below 100",
        ),
        ("photographs", "", "photographs = ''"),  # the project's own folder, results and all
        ("embedded.caption", {"kind": "poet"}, "embedded.caption.kind = 'poet'"),
        ("embedded.dial.sweeps", ["speed"], "embedded.dial.sweeps.0 = 'speed'"),
        ("embedded.dial.seeds", 1, "greater than or equal to 2"),
        ("profile", "laptop", "profile = 'laptop'"),
        ("embedded.evaluate.metrics", [], "embedded.evaluate.metrics is empty"),
        ("embedded.data.val_patch", 128, "names niqe, but data.val_patch is 128: niqe needs 192"),
        ("embedded.evaluate.sample.tile_overlap", 32, "sample.tile_overlap, 32, must be below tile, 32"),
        ("embedded.evaluate.sample", {"lre": False, "start": 0.5}, "embedded.evaluate.sample.start, 0.5, needs lre"),
        ("embedded.evaluate.sample.steps", 1001, "start 1 leaves 1000 of the 1000 timesteps of spasemsr"),
        ("degradation.preset", "harsh", "'seesr', 'stablesr', 'camera', 'mild' or 'mixture'"),
        ("degradation.mixture.seesr", 0.5, "the shares of a mixture must sum to 1"),
        ("methods", ["srcnn"], "methods.0 = 'srcnn': no such method (there are: "),
        ("methods", [], "methods = []"),
        ("methods", ["seesr", "seesr"], "methods = ['seesr', 'seesr']: seesr stands there twice; leave one out"),
        ("learners", ["dape", "dape"], "dape stands there twice"),
        ("embedded.data.packages", ["skimage", "skimage"], "skimage stands there twice"),
        ("embedded.evaluate.metrics", ["psnr", "psnr"], "psnr stands there twice"),
        ("embedded.dial.sweeps", ["dial", "dial"], "dial stands there twice"),
        ("embedded.learners.dape.gives", ["soft", "soft"], "embedded.learners.dape.gives = ['soft', 'soft']: soft"),
        ("embedded.evaluate.baselines", ["ours/segsr.pth"], "segsr would name two things in the tables"),
        (
            "embedded.methods.spasemsr.model.schedule.beta_start",
            0.5,
            "beta_start, 0.5, is above beta_end, 0.012: noise",
        ),
        (
            "embedded.methods.spasemsr.features.sam.channels",
            33,
            "sam.channels = 33: Input should be less than or equal",
        ),
        ("embedded.train.init", "", "embedded.train.init = ''"),
        ("embedded.learners.dape.channels", 0, "embedded.learners.dape.channels = 0: Input should be greater"),
        ("embedded.learners.dape.width", 3, "embedded.learners.dape.width = 3: no such key (allowed: gives, input, tr"),
        ("embedded.learners.depth.teacher.grid", 3, "embedded.learners.depth.teacher.grid = 3: no such key (allowed"),
        ("embedded.methods.srcnn", {}, "embedded.methods.srcnn = {}: no such key (allowed: "),
        ("embedded.methods.spasemsr.model.depth", 3, "spasemsr.model.depth = 3: no such key (allowed: input, base"),
        ("embedded.methods.spasemsr.train.steps", 0, "embedded.methods.spasemsr.train.steps = 0: Input should be"),
        ("embedded.methods.spasemsr.train.stepz", 9, "embedded.methods.spasemsr.train.stepz = 9: no such key"),
        ("embedded.learners.dape.gives", ["sfot"], "embedded.learners.dape.gives: sfot: no method has such a feature"),
        ("embedded.methods.spasemsr.train.warmup_steps", 101, "embedded.methods.spasemsr.train.warmup_steps exceeds"),
        ("embedded.train.cooldown_steps", 101, "train.cooldown_steps, 101, exceeds embedded.train.steps, 100"),
        ("probe.methods.spasemsr.train", {"steps": 74}, "probe.methods.spasemsr.train.cooldown_steps, 75, exceeds"),
        ("embedded.methods.seesr.train.cooldown_steps", 201, "embedded.methods.seesr.train.cooldown_steps, 201, exc"),
        ("embedded.learners.recogniser.train.steps", 999, "learners.recogniser.train.cooldown_steps, 1000, exceeds"),
        ("embedded.train.validate_every", 5, "embedded.train.validate_every is 5, but embedded.train.held is 0"),
        ("foundation.methods.segsr.train", {"held": 0}, "segsr.train.validate_every is 5000, but foundation.methods"),
        ("foundation.learners.dape.train", {"held": 64}, "foundation.learners.dape.train.held: a student learns from"),
        ("embedded.learners.dape.train.validate_every", 5, "embedded.learners.dape.train.validate_every: a student"),
        ("embedded.learners.dape.train.keep_every", 5, "embedded.learners.dape.train.keep_every: a student learns"),
        ("embedded.methods.spasemsr", None, "embedded.methods.spasemsr: missing, and `methods` lists spasemsr"),
        ("embedded.data.patch", 100, "multiple of 64"),
        ("embedded.data.patch", 64, "at least 80 pixels"),
        ("probe.data.patch", 128, "must be scenes.side, 64"),
        ("probe.data.packages", ["skimage"], "packages must be empty with scenes"),
        ("probe.data.scenes.most", 5, "a picture of 64 pixels holds up to 4"),
        ("embedded.caption", {"kind": "known"}, "embedded.caption.scenes"),
        ("embedded.methods.spasemsr.model.unet.attention_heads", [3, 4, 6, 6], "multiple of its 3 heads"),
        (
            "embedded.ground.max_objects",
            13,
            "embedded.methods.spasemsr.model.objects.max is 20, but embedded.ground finds up to 21",
        ),
    ],
)
def test_wrong_values_are_refused_by_key_value_and_what_is_allowed(raw, key, value, said):
    with pytest.raises(UserError) as error:
        parse_params(changed(raw, key, value), "params.yaml")
    assert said in error.value.what
    assert "nothing was run" in error.value.remedy


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("methods", ["srcnn"], f"methods.0 = 'srcnn': no such method (there are: {', '.join(names())})"),
        ("probe.data.scenes.count", 1, "probe.data.scenes.count = 1: Input should be greater than or equal to 2"),
        ("methods", "seesr", "methods = 'seesr': a list is needed, as in [seesr]"),
    ],
)
def test_one_mistake_is_one_line(raw, key, value, said):
    with pytest.raises(UserError) as error:
        parse_params(changed(raw, key, value), "params.yaml")
    assert error.value.what == f"params.yaml: {said}"


def test_true_is_no_number_anywhere(raw):
    """pydantic takes it for 1: `lambda: true` would be semantics alone."""
    numbers: list[str] = []
    own_training = re.compile(r"\.(methods|learners)\.\w+\.train\.")

    def told_true(value: object, at: str) -> object:
        if isinstance(value, dict):
            return {key: told_true(each, f"{at}.{key}" if at else key) for key, each in value.items()}
        if isinstance(value, list):
            return [told_true(each, f"{at}.{place}") for place, each in enumerate(value)]
        # what a method or student trains otherwise is read once the profile's own training is sound
        if isinstance(value, bool) or not isinstance(value, int | float) or own_training.search(at):
            return value
        numbers.append(at)
        return True

    with pytest.raises(UserError) as error:
        parse_params(told_true(raw, ""), "params.yaml")
    said = error.value.what.removeprefix("params.yaml: ").split("; ")
    assert len(numbers) > 300
    assert [at for at in numbers if f"{at} = True: a number is needed" not in said] == ["scale"]
    with pytest.raises(UserError, match=r"seesr\.train\.lr = True: a number is needed"):
        parse_params(changed(raw, "embedded.methods.seesr.train.lr", True), "params.yaml")


def test_a_method_may_be_trained_otherwise(raw):
    params = parse_params(
        changed(raw, "embedded.methods.spasemsr.train", {"steps": 7, "warmup_steps": 0}), "params.yaml"
    )
    own, common = params.embedded.train_of("spasemsr"), params.embedded.train
    assert own == common.model_copy(update={"steps": 7, "warmup_steps": 0}) != common
    assert params.foundation.train_of("spasemsr") == params.foundation.train


def test_a_long_cooldown_is_refused_of_what_runs_alone(raw):
    """A run of one method sets the profile's, which shorter methods and students that do not run inherit."""
    raw["embedded"]["train"] |= {"steps": 1500, "cooldown_steps": 900}  # as experiments/nano.sh does
    parse_params(raw, "params.yaml")
    for listed, said in (({"methods": ["seesr"]}, "methods.seesr"), ({"learners": ["dape"]}, "learners.dape")):
        with pytest.raises(UserError, match=rf"{said}\.train\.cooldown_steps, 900, exceeds .*\.steps, 200"):
            parse_params(raw | listed, "params.yaml")


def test_a_student_is_not_validated_on_the_way_as_methods_are():
    profile = load_params(SHIPPED).foundation
    assert (profile.train.held, profile.train.validate_every, profile.train.keep_every) == (256, 5000, 20000)
    student = profile.train_of_learner("dape")
    assert (student.held, student.validate_every, student.keep_every) == (0, 0, 0)


def test_a_method_without_a_folder_is_refused_with_those_there_are():
    with pytest.raises(UserError, match="no method 'esrgan'") as error:
        method("esrgan")
    assert "spasemsr" in error.value.remedy
    assert all(method(name).name == name for name in names())


def test_a_missing_key_is_named(raw):
    del raw["embedded"]["train"]
    with pytest.raises(UserError, match=r"embedded\.train: missing"):
        parse_params(raw, "params.yaml")


def test_numbers_as_dvc_writes_them(raw):
    # `dvc exp run -S embedded.train.lr=0.00001` writes 1e-05, which PyYAML reads as a string.
    text = yaml.safe_dump(raw).replace(f"lr: {raw['embedded']['train']['lr']}", "lr: 1e-05")
    assert parse_params(yaml.safe_load(text), "params.yaml").embedded.train.lr == 1e-5


def test_no_file_and_no_yaml(tmp_path):
    with pytest.raises(UserError, match=r"No .*params\.yaml"):
        load_params(tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_text("a: [1")
    with pytest.raises(UserError, match="not YAML"):
        load_params(tmp_path / "params.yaml")


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("foundation.caption.revision", "main", "foundation.caption.revision = 'main': String should match"),
        (
            "foundation.caption.questions",
            "?",
            "questions = '?': no such key (allowed: source, revision, precision, kind",
        ),
        (
            "foundation.restore.kind",
            "waifu",
            "restore.kind = 'waifu': choose one of 'filter', ",
        ),
        ("foundation.ground.segmenter.architecture", "vit_x", "'vit_h', 'vit_l' or 'vit_b'"),
        ("foundation.methods.spasemsr.model.base", {"kind": "pretrained"}, "spasemsr.model.base.source: missing"),
        ("foundation.methods.spasemsr.model.unet.attention_heads", [7, 10, 20, 20], "spasemsr.model.unet: width 320"),
        ("foundation.train.steps", 0, "foundation.train.steps = 0"),
    ],
)
def test_the_profile_that_is_not_in_use_is_checked_too(raw, key, value, said):
    assert raw["profile"] == "embedded"
    with pytest.raises(UserError) as error:
        parse_params(changed(raw, key, value), "params.yaml")
    assert said in error.value.what


def test_content_is_plain_without_where_weights_lie(raw):
    params = parse_params(raw, "params.yaml")
    for section in ("restore", "ground", "caption", "autoencoder"):
        embedded, foundation = getattr(params.embedded, section), getattr(params.foundation, section)
        if section != "ground":  # whose weights lie in a package
            assert embedded.content() == embedded.plain()  # so embedded cache entries keep their names
        assert "source" not in str(foundation.content()) and "source" in str(foundation.plain())


def test_other_methods_can_be_asked_about_than_those_that_are_listed(raw):
    params = parse_params(raw, "params.yaml")
    assert params.running(["segsr", "seesr", "segsr"]).methods == ("segsr", "seesr")
    with pytest.raises(UserError, match="no method 'esr'"):
        params.running(["esr"])


def test_columns_of_the_paper_have_a_tar_for_every_process(raw):
    """Streaming gives a process whole tars: 64 GPUs with eight loaders each find one, if there are photographs."""
    buckets = parse_params(raw, "params.yaml").foundation.data.num_buckets
    photographs = (hashlib.sha256(str(i).encode()).hexdigest() for i in range(8000))
    assert len({bucket_of(sha256, buckets) for sha256 in photographs}) == buckets >= 512


def test_the_papers_network_sees_no_degradation_often(raw):
    """Over two, 967 million parameters would have gone 37 times."""
    params = parse_params(raw, "params.yaml")
    train, variants = params.foundation.train, params.foundation.data.variants
    assert train.steps * train.global_batch / (85_000 * variants) < 10
