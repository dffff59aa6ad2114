"""Points on which the paper can be read otherwise: each reading acts, and the defaults name nothing anew."""

import pytest
import torch
from pydantic import ValidationError

from spasemsr.hashing import fingerprint
from spasemsr.methods.noise import Noise
from spasemsr.methods.spasemsr.constraint import semantic_degradation_loss
from spasemsr.methods.spasemsr.spec import ModelSpec
from tests.worlds.guided import parameters
from tests.worlds.small_methods import TWO, objects_of, sampling, small_batch, small_method
from tests.worlds.small_networks import PICO, pico_network, random_condition, random_inputs

DEFAULTS = {"text": {"objects": True}, "base_text": "tags", "hyb_tap": "residual"}


def predicted(network, condition, inputs):
    with torch.no_grad():
        return network.predict(inputs["latents"], inputs["timesteps"], network.encode(inputs["lr_up"], condition))


def states(method, text):
    return method.text_encoder.encode([text]).states_BLD[0]


def test_defaults_are_said_nowhere_so_that_runs_and_weights_keep_their_names():
    plain = ModelSpec.model_validate(PICO).plain()
    said = ModelSpec.model_validate(PICO | DEFAULTS | {"encoders": PICO["encoders"] | {"sem": True}}).plain()
    assert said == plain and not DEFAULTS.keys() & plain.keys() and plain["encoders"].keys() == PICO["encoders"].keys()
    others = [{"text": {"objects": False}}, {"base_text": "empty"}, {"hyb_tap": "hidden"}, {"encoders": {"sem": False}}]
    specs = [ModelSpec.model_validate(PICO | other).plain() for other in others]
    assert len({fingerprint(spec) for spec in (plain, *specs)}) == 5
    assert ModelSpec.model_validate(specs[0]).text.objects is False  # as config.json is read


def test_without_e_sem_the_image_encoder_fills_all_channels():
    both, alone = pico_network(), pico_network(encoders=PICO["encoders"] | {"sem": False}).eval()
    assert alone.trainable().keys() == both.trainable().keys() - {"e_sem"}
    lr_up = random_inputs()["lr_up"]
    assert alone.see(lr_up).shape == both.see(lr_up).shape and alone.see(lr_up)[:, 8:].std() > 0.1
    condition, inputs = random_condition(), random_inputs()
    with torch.no_grad():
        base = alone.unet(inputs["latents"], inputs["timesteps"], condition.base_BLD).sample
    assert torch.equal(predicted(alone, condition, inputs).sample, base), "it starts as its base too"


def test_without_objects_text_the_caption_and_the_base_know_tags_and_no_place():
    method = small_method(text={"objects": False})
    batch, spec = small_batch(["a"], training=False), sampling(steps=1)
    assert method.conditions == {"tags", "caption"} and method.network.fusion is None
    found = method.condition(batch, spec)
    assert found.token_mask_BNG.any(2).tolist() == [[True]] and found.use_boxes_B.tolist() == [False]
    assert torch.equal(found.base_BLD[0], states(method, "red car, sky, clean, high-resolution, 8k"))
    batch.objects[0] = moved = objects_of(*zip(TWO.tags, TWO.boxes[::-1], TWO.scores, strict=True))
    one = method.restore(batch, Noise(1, 0), spec)
    batch.objects[0] = TWO
    assert moved.tags == TWO.tags and torch.equal(method.restore(batch, Noise(1, 0), spec), one)
    assert small_method(text={"objects": False}, base_text="empty").conditions == {"caption"}


def test_a_base_with_no_tags_is_left_the_words_of_sampling():
    method, batch = small_method(base_text="empty"), small_batch(["a"])
    training = method.training_condition(batch, Noise(1, 0), torch.zeros(1), torch.zeros(1))
    assert torch.equal(training.base_BLD[0], states(method, "")) and training.token_mask_BNG[0, 1].any()
    found = method.condition(batch, sampling())
    assert torch.equal(found.base_BLD[0], states(method, "clean, high-resolution, 8k"))
    assert method.conditions == {"tags", "boxes", "caption"}


def test_a_base_can_read_the_objects_with_their_places():
    network, condition, inputs = pico_network(base_text="spa").eval(), random_condition(), random_inputs()
    found = predicted(network, condition, inputs).sample
    with torch.no_grad():
        rows = network.encode(inputs["lr_up"], condition)
        text = {"encoder_hidden_states": rows.spatial_BMD, "encoder_attention_mask": rows.spatial_mask_BM}
        assert torch.equal(found, network.unet(inputs["latents"], inputs["timesteps"], **text).sample)
    assert not torch.equal(found, predicted(pico_network().eval(), condition, inputs).sample)
    condition.base_BLD.fill_(torch.nan)
    assert torch.equal(predicted(network, condition, inputs).sample, found)
    with pytest.raises(ValidationError, match=r"text\.objects is off"):
        ModelSpec.model_validate({"base_text": "spa", "text": {"objects": False}})


@pytest.mark.parametrize("tap", ["residual", "hidden"])
def test_shown_hidden_states_the_constraint_reaches_what_lies_behind_zero_convs_at_once(tap):
    network, inputs = pico_network(hyb_tap=tap), random_inputs()
    encoded = network.encode(inputs["lr_up"], random_condition())
    prediction = network.predict(inputs["latents"], inputs["timesteps"], encoded)
    assert torch.equal(prediction.sample, predicted(pico_network(), random_condition(), inputs).sample)
    assert (prediction.hybrid is prediction.residuals) == (tap == "residual")
    references = inputs["latents_ref"], inputs["features_ref"]
    sum(semantic_degradation_loss(prediction.hybrid, *references, network.heads, 0.5).values()).backward()
    reached = {name.split(".")[0] for name, p in parameters(network).items() if p.grad is not None and p.grad.any()}
    assert reached == {"controlnet", "heads"} | ({"fusion", "inject", "spasem"} if tap == "hidden" else set())
    convs = [p.grad for name, p in parameters(network).items() if name.startswith("controlnet.controlnet_down_blocks")]
    assert all(grad is not None and grad.any() for grad in convs) == (tap == "residual")
