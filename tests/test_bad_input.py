"""Every kind of bad input: one clear sentence, the documented exit code, and nothing that was there is lost."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from console import CHATS, PAIRS, TASKS, Whet, console, tree, write

from whet.errors import ConfigError, DataError, MissingExtra, ModelError, NumericsError, RewardError, RunError
from whet.lab import base_model_path
from whet.lock import take_lock

REWARDS = """
import math, time
calls = [0]

def good(completions, **columns):
    return [float(len(set(str(c)))) + i for i, c in enumerate(completions)]

def second(act):
    def score(completions, **columns):
        calls[0] += 1
        return act(completions) if calls[0] > 1 else good(completions)
    return score

def fail(completions):
    raise KeyError("gold")

raises = second(fail)
nan = second(lambda completions: [math.nan for _ in completions])
none = second(lambda completions: [None for _ in completions])
nothing = second(lambda completions: None)
short = second(lambda completions: [1.0])
words = second(lambda completions: ["good" for _ in completions])
hangs = second(lambda completions: time.sleep(8))
value = 3

def wants(completions, gold, **columns):
    return [1.0 for _ in completions]
"""


@pytest.fixture
def whet(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Whet:
    """The command in an empty folder with a user's files."""
    monkeypatch.chdir(tmp_path)
    for name, rows in (("tasks", TASKS), ("pairs", PAIRS), ("chats", CHATS)):
        write(Path(f"{name}.jsonl"), rows)
    Path("my.py").write_text(REWARDS)
    return console(monkeypatch, capsys)


GRPO = ("run", "grpo", "model=lab:base", "data=tasks.jsonl", "prompts=2", "group=2", "max_new_tokens=4", "steps=2")
GRPO = (*GRPO, "data.holdout=0")
SFT = ("run", "sft", "model=lab:base", "data=chats.jsonl", "data.holdout=0", "batch=4")
DPO = ("run", "dpo", "model=lab:base", "data=pairs.jsonl", "data.holdout=0", "steps=1")
CONFIG, DATA, MODEL = ConfigError.exit_code, DataError.exit_code, ModelError.exit_code
REWARD, RUN = RewardError.exit_code, RunError.exit_code


# ------------------------------------------------------------------------------------------- options, methods, names


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("run", "gropo"), ["no recipe is called 'gropo'", "did you mean grpo?", "there are: "]),
        (
            ("run", "grpo", "model=lab:base", "data=tasks.jsonl", "rewrd=lab:math", "optim.lrr=1"),
            ["3 problems", "grpo: reward: must be given", "no key rewrd (did you mean reward?)", "mean optim.lr?"],
        ),
        ((*DPO, "loss=dpoo"), ["is called 'dpoo' (did you mean dpo?)", "there are: dpo, orpo"]),
        ((*DPO, "loss.bta=1"), ["dpo has no option 'bta' (did you mean beta?)", "its options: beta (number"]),
        ((*DPO, "dpo.loss.beta=x"), ['loss.beta: got "x"; it must be a number']),
        ((*DPO, "dpo.seed=1.5"), ["seed: got 1.5; it must be an integer"]),
        ((*DPO, "seed=1", "seed=2"), ["seed=2: contradicts command line: seed=1"]),
        ((*DPO, "whatever"), ["whatever: must have the form key=value"]),
        (("run", "quickstart", "sft.stps=1", "grpo.optim.lr=x"), ["stage sft: ", "stage grpo: ", "did you mean"]),
        ((*GRPO, "reward=exactmatch"), ["no reward is called 'exactmatch' (did you mean exact_match?)"]),
        ((*GRPO, "reward=lab:maths"), ["no lab world 'maths'", "did you mean 'math'"]),
        ((*GRPO, "reward=my.py"), ["'my.py' is a file without a function; write my.py:FUNCTION"]),
        ((*GRPO, "reward=mi.py:good"), ["no file 'mi.py' (did you mean my.py?)"]),
        ((*GRPO, "reward=my.py:"), ["no import path of a function; write FILE.py:NAME"]),
        (("run", "grpo", "model=lab:bas", "data=tasks.jsonl", "reward=lab:math"), ["no embedded model 'bas'", "base"]),
        (("run", "sft", "model=lab:base", "data=lab:chatt/train"), ["no lab world 'chatt'", "did you mean 'chat'"]),
        (("run", "sft", "model=lab:base", "data=lab:chat/tran"), ["no split 'tran'", "train, test"]),
        (("run", "dpo", "model=lab:base", "data=lab:chat/train"), ["dpo needs pairs or labels", "give a file"]),
        (("run", "grpo", "model=lab:base", "data=tasks.jsonl", "reward=lab:math", "group=1"),
         ["group_zscore compares the responses to one prompt, but group is 1: set group=2 or more"]),
        (("run", "ppo", *GRPO[2:], "reward=lab:math", "critic=null"), ["advantage gae needs values: set critic"]),
        ((*GRPO, "reward=lab:math", "critic=true"), ["critic is given, but advantage group_zscore looks at no values"]),
        (
            (*GRPO, "reward=lab:math", "reference.path=lab:base", "kl.coef=0"),
            ["reference is given, but kl.coef is 0", "set kl.coef or leave it out"],
        ),
        (("run", "orpo", *DPO[2:], "reference.path=lab:base"), ["orpo looks at none: leave it out"]),
        ((*DPO, "checkpoint.best=eval/loss"), ["nothing is held out to measure it on", "data.holdout or eval.data"]),
        ((*DPO, "--resume"), ["--resume needs the run to go on with: --out FOLDER, as in --out runs/dpo-1"]),
        (("run", "missing.yaml"), ["missing.yaml does not exist; give a recipe's name"]),
        (("run", "."), [". is a folder; give a recipe's name"]),
        (("explain", "dpoo"), ["nothing is called 'dpoo' (did you mean dpo?)"]),
        (("list", "recipee"), ["no shelf 'recipee' (did you mean recipe?)"]),
        (("recipe", "show", "grpo", "--stage", "gpro"), ["no stage 'gpro' (did you mean grpo?)"]),
        (("eval", "lab:base", "data=tasks.jsonl"), ["whet eval: reward: must be given: What scores"]),
        (("eval", "lab:base", "data=tasks.jsonl", "reward=lab:math", "kk=2"), ["kk", "did you mean k?"]),
        (("eval", "lab:base", "data=tasks.jsonl", "reward=lab:maths"), ["no lab world 'maths'"]),
    ],
)  # fmt: skip
def test_options_and_names(whet: Whet, words: tuple[str, ...], parts: list[str]) -> None:
    """All problems at once, before a model is loaded or a folder made."""
    whet(*words).refused(CONFIG, *parts)
    assert not Path("runs").exists()


@pytest.mark.parametrize("words", [("runn",), ("run",), ("run", "grpo", "--outt", "x"), ("eval", "lab:base")])
def test_a_wrong_command_line_points_to_the_help(whet: Whet, words: tuple[str, ...]) -> None:
    said = whet(*words)
    assert said.code == CONFIG and "--help' for help" in said.err and "Traceback" not in said.err


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (
            "loop: online\nmodel: {path: lab:base}\nmodle: 3\nsteps: many\nsteps: 2\ndata: {path: tasks.jsonl}\n"
            "rewards: [{function: lab:math, weigth: 1}]\n",
            [
                "4 problems in the configuration",
                "my.yaml:5:1: the key 'steps' is given twice, first at my.yaml:4:1",
                'my.yaml:4:8: steps: got "many"; it must be an integer',
                "my.yaml:7:32: rewards.0.weigth: there is no such key (did you mean rewards.0.weight?)",
                "my.yaml:3:1: modle: there is no such key (did you mean model?)",
            ],
        ),
        ("loop: onlin\n", ["my.yaml:1:7: loop is 'onlin' (did you mean online?)"]),
        ("lop: online\n", ["names neither a loop nor a recipe (lop: did you mean loop?)"]),
        ("a: [1\n", ["my.yaml:2:1: this is no YAML"]),
        ("", ["my.yaml is empty"]),
        ("recipe: gropo\n", ["my.yaml:1:9: no recipe is called 'gropo' (did you mean grpo?)"]),
        (
            "recipe: grpo\nparms: {}\nparams:\n  model: a\n  model: b\n",
            ["my.yaml:5:3: the key 'model' is given twice", "my.yaml:2:1: parms: there is no such key (did you mean"],
        ),
        (
            "recipe: sft\nparams:\n  model: lab:base\n  data: chats.jsonl\n  stps: 1\n  seed: x\n",
            ["my.yaml:5:3: stps: there is no such key (did you mean steps?)", 'my.yaml:6:9: seed: got "x"'],
        ),
    ],
)
def test_a_file_of_options(whet: Whet, text: str, parts: list[str]) -> None:
    Path("my.yaml").write_text(text)
    whet("run", "my.yaml").refused(CONFIG, *parts)


def test_a_launcher_of_several_processes(whet: Whet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    whet(*DPO).refused(CONFIG, "WORLD_SIZE is 2, but this command runs in one process: start it without a launcher")


# -------------------------------------------------------------------------------------------- files, rows, tokenizers


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("data=pair.jsonl",), ["no file 'pair.jsonl' (did you mean pairs.jsonl?)", "give a file"]),
        (("data=nofolder/pairs.jsonl",), ["no file 'nofolder/pairs.jsonl' (nor a folder 'nofolder')"]),
        (("model=nomodel",), ["nomodel is no folder", "give the path of a model folder"]),
        (("model=somewhere/nomodel",), ["somewhere/nomodel is no folder", "did you mean model?"]),
        (("model=somewhere",), ["somewhere is no model: it has no config.json"]),
    ],
)
def test_a_missing_file(whet: Whet, words: tuple[str, ...], parts: list[str]) -> None:
    Path("somewhere/model").mkdir(parents=True)
    rest = [word for word in DPO if word.partition("=")[0] != words[0].partition("=")[0]]
    whet(*rest, *words).refused(DATA, *parts)
    assert not Path("runs").exists()


def dialogue(*texts: str) -> dict[str, list[dict[str, str]]]:
    return {"messages": [{"role": r, "content": t} for r, t in zip(["user", "assistant"], texts, strict=False)]}


EMPTY_ANSWER, BLANK_ANSWER = {**PAIRS[0], "chosen": ""}, {**PAIRS[0], "rejected": " "}
SAME = {**PAIRS[0], "rejected": PAIRS[0]["chosen"]}
LONG = {"prompt": "What is 1 + 1 ? " * 200, "answer": "2"}


@pytest.mark.parametrize(
    ("recipe", "rows", "parts"),
    [
        ("dpo", [*PAIRS[:3], EMPTY_ANSWER, BLANK_ANSWER], ["2 rows are bad", "my.jsonl:4 has an empty 'chosen'",
         "my.jsonl:5 has an empty 'rejected'", "data.max_bad_rows allows 0"]),
        ("dpo", [*PAIRS[:3], "{broken", {"prompt": "q", "chosen": "a"}], ["my.jsonl:4 is not JSON",
         "my.jsonl:5 has no column 'rejected'"]),
        ("dpo", [*PAIRS[:3], SAME], ["1 of 4 rows are pairs of two identical answers (first: my.jsonl:4)", "remove"]),
        ("dpo", [{"prompt": "q", "chosn": "a", "rejected": "b"}], ["chosn (did you mean chosen?)",
         "pairs need chosen + rejected"]),
        ("dpo", CHATS[:3], ["the columns messages, of which no pairs can be made", "chosen + rejected"]),
        ("dpo", [], ["the dataset has no rows"]),
        ("sft", [*CHATS[:3], dialogue("q", "")], ["my.jsonl:4 'messages', message 2 is empty"]),
        ("sft", TASKS[:3], ["no demonstrations can be made", "prompt + completion"]),
        ("sft", [{"compltion": "a", "prompt": "q"}], ["compltion (did you mean completion?)"]),
        ("grpo", [*TASKS[:3], {"prompt": "", "answer": "2"}], ["my.jsonl:4 has an empty 'prompt'"]),
        ("grpo", [*TASKS[:3], LONG], ["1 of 4 rows are too long for the context (first: my.jsonl:4 with 1200 tokens",
         "at most 5% may be", "shorten them, set data.overlong=keep_end"]),
        ("kto", [{"prompt": "q", "completion": "a", "label": "maybe"}], ["'maybe' in 'label', which is no number"]),
    ],
)  # fmt: skip
def test_a_bad_row(whet: Whet, recipe: str, rows: list[object], parts: list[str]) -> None:
    """File, line and reason; the run that could not begin leaves no step."""
    write(Path("my.jsonl"), rows)
    more = ["reward=lab:math"] if recipe == "grpo" else []
    whet("run", recipe, "model=lab:base", "data=my.jsonl", "steps=1", *more).refused(DATA, *parts)
    assert not list(Path("runs").rglob("step_*"))


def test_bad_rows_may_be_left_out_when_asked_and_it_is_said(whet: Whet) -> None:
    write(Path("my.jsonl"), [*PAIRS, EMPTY_ANSWER])
    words = [word.replace("pairs", "my") for word in DPO]
    said = whet(*words, "data.max_bad_rows=1")
    assert said.code == 0 and "12 kept; 1 refused as malformed or empty" in said.err, said.err


def test_a_prompt_longer_than_the_context_is_cut_when_asked(whet: Whet) -> None:
    turns = [{"role": r, "content": "What is 1 + 1 ? " * 50} for r in ("user", "assistant", "user")]
    write(Path("my.jsonl"), [*TASKS[:3], LONG, {"prompt": [*turns, *turns[1:]], "answer": "2"}])
    words = [word.replace("tasks", "my") for word in GRPO]
    words = [*words, "reward=my.py:good", "prompts=5"]
    words.remove("prompts=2")
    whet(*words, "data.overlong=error").refused(DATA, "my.jsonl:4 has 1200 tokens, and at most 511 fit; shorten it")
    said = whet(*words, "data.overlong=keep_end", "--out", "run")
    assert said.code == 0 and "5 kept; 2 " in said.err, said.err
    prompts = [json.loads(line) for line in next(Path("run").rglob("rollouts.jsonl")).read_text().splitlines()]
    cut = {row["task_id"]: row["prompt"] for row in prompts}
    assert cut["my.jsonl:4"].endswith("1 ?") or cut["my.jsonl:4"].rstrip().endswith("?"), cut["my.jsonl:4"][-40:]
    assert cut["my.jsonl:5"].count("What") < 150


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the embedded model that may be broken."""
    return Path(shutil.copytree(base_model_path(), tmp_path / "model"))


def without(file: Path, *names: str) -> None:
    known = json.loads(file.read_text())
    file.write_text(json.dumps({key: value for key, value in known.items() if key not in names}))


def test_a_tokenizer_without_stop(whet: Whet, folder: Path) -> None:
    without(folder / "tokenizer_config.json", "eos_token")
    without(folder / "generation_config.json", "eos_token_id")
    words = [word.replace("lab:base", "model") for word in SFT]
    whet(*words).refused(MODEL, "model names no stop token", "set eos_token", "eos_token_id")
    assert whet(*words, "steps=1", "model.stop=<eos>").code == 0
    whet(*words, "model.stop=<eoss>").refused(MODEL, "model.stop is '<eoss>', which the vocabulary of model lacks")


def test_a_tokenizer_without_template(whet: Whet, folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()
    words = [word.replace("lab:base", "model") for word in SFT]
    whet(*words).refused(MODEL, "no chat template", "plain text", "chat_template.jinja")
    assert whet("run", "dpo", "model=model", *DPO[3:]).code == 0, "plain text needs none"


@pytest.mark.parametrize("recipe", ["sft", "reward"])
def test_a_tokenizer_without_padding_is_none_the_worse(whet: Whet, folder: Path, recipe: str) -> None:
    """Nothing is padded; a saved reward model gets a token of its own for those who pad."""
    without(folder / "tokenizer_config.json", "pad_token")
    without(folder / "generation_config.json", "pad_token_id")
    without(folder / "config.json", "pad_token_id")
    said = whet("run", recipe, "model=model", "data=pairs.jsonl", "data.holdout=0", "steps=1", "model.layout=padded")
    assert said.code == 0, said.err
    if recipe == "reward":
        from transformers import AutoTokenizer

        saved = AutoTokenizer.from_pretrained(next(Path("runs").rglob("final")))
        assert saved.pad_token is not None and saved.pad_token_id != saved.eos_token_id


@pytest.mark.parametrize(
    ("file", "data", "part"),
    [
        ("model.safetensors", b"\x10\x00", "the weights of model cannot be loaded"),
        ("config.json", b"{", "the configuration of model cannot be read"),
        ("config.json", b'{"model_type": "vit"}', "model is a vit, which is no language model"),
        ("tokenizer.json", b"{", "model has no tokenizer that can be loaded"),
    ],
)
def test_a_folder_that_is_no_model(whet: Whet, folder: Path, file: str, data: bytes, part: str) -> None:
    (folder / file).write_bytes(data)
    whet("run", "sft", "model=model", *SFT[3:]).refused(MODEL, part)


# ---------------------------------------------------------------------------------------------------------- rewards


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("raises", "the reward score raised KeyError: 'gold', on task 'tasks.jsonl:"),
        ("nan", "the reward score returned nan on task 'tasks.jsonl:"),
        ("none", "the reward score gave None for all 4 answers"),
        ("nothing", "the reward score returned None, not a list with one number per answer"),
        ("short", "the reward score returned 1 values for 4 answers; one each is needed"),
        ("words", "the reward score returned the text 'good', not a number, on task 'tasks.jsonl:"),
        (
            "hangs",
            "the reward score did not return within its deadline of 1 s, on a batch of 4 answers, from task 'tasks",
        ),
    ],
)
def test_a_reward_that_fails_in_its_second_step(whet: Whet, name: str, part: str) -> None:
    """Function and row named, the first step saved."""
    words = (*GRPO, f"reward=my.py:{name}", "rewards.0.deadline=1", "rewards.0.name=score", "--out", "run")
    whet(*words).refused(REWARD, part, "; step 1 is saved, and --resume goes on after it")
    (stage,) = Path("run/stages").iterdir()
    assert [p.name for p in (stage / "checkpoints").iterdir()] == ["step_1"]
    assert len((stage / "metrics.jsonl").read_text().splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "code", "part"),
    [
        ("my.py:god", CONFIG, "my.py has no 'god' (did you mean good?)"),
        ("my.py:value", CONFIG, "my.py:value is of type int; a reward is a function"),
        ("my.py:wants", DATA, "the reward wants asks for gold, which is no column of the data; the data has answer"),
        ("lab:math", DATA, "the reward lab:math judges only the tasks of its own world"),
        ("nomodule.sub:fn", CONFIG, "there is no module 'nomodule'"),
        ("broken.py:fn", REWARD, "broken.py cannot be imported: ModuleNotFoundError: No module named 'nosuch'"),
        ("model:runs/reward-1", MODEL, "runs/reward-1 is no folder"),
    ],
)
def test_a_reward_that_cannot_be_used(whet: Whet, name: str, code: int, part: str) -> None:
    Path("broken.py").write_text("import nosuch\n")
    Path("runs").mkdir()
    whet(*GRPO, f"reward={name}").refused(code, part)
    whet("eval", "lab:base", "data=tasks.jsonl", f"reward={name}", "k=1", "n=2").refused(code, part)


# ------------------------------------------------------------------------------------- numbers, folders, checkpoints


def test_a_loss_that_is_not_finite(whet: Whet) -> None:
    said = whet(*SFT, "steps=3", "optim.lr=1e30", "optim.schedule=constant", "optim.warmup=0", "--out", "run")
    said.refused(NumericsError.exit_code, "not finite: ", "nothing was updated", "lower optim.lr", "step 1 is saved")
    assert [p.name for p in Path("run/stages/01-sft/checkpoints").iterdir()] == ["step_1"]


def test_a_second_process_on_the_same_folder(whet: Whet) -> None:
    words = (*DPO, "--out", "run")
    assert whet(*words).code == 0
    before = tree(Path("run"))
    lock = take_lock(Path("run"))
    try:
        held = tree(Path("run"))
        assert held.keys() == before.keys()
        whet(*words, "--resume").refused(RUN, "run is in use by process ", "wait for it, end it, or choose another")
        assert tree(Path("run")) == held
    finally:
        os.close(lock)
    assert whet(*words, "--resume").code == 0


def test_a_folder_that_is_not_empty(whet: Whet) -> None:
    Path("mine").mkdir()
    Path("mine/thesis.txt").write_text("precious")
    whet(*DPO, "--out", "mine").refused(RUN, "mine is not empty (it has 'thesis.txt'); choose another folder")
    assert tree(Path("mine"))["thesis.txt"] == b"precious"
    whet(*DPO, "--out", "mine", "--resume").refused(RUN, "mine is not a run folder")
    Path("file").write_text("x")
    whet(*DPO, "--out", "file").refused(RUN, "file")


def test_a_folder_that_holds_a_run(whet: Whet) -> None:
    assert whet(*DPO, "--out", "run").code == 0
    before = tree(Path("run"))
    whet(*DPO, "--out", "run").refused(RUN, "run already holds a run; resume it, or choose another folder")
    said = whet(*DPO, "seed=3", "--out", "run", "--resume")
    said.refused(RUN, "run was started with other options: params.seed: 0 → 3", "resume with the same ones")
    after = tree(Path("run"))
    assert {name for name in before if before[name] != after[name]} <= {".lock", "events.jsonl"}


@pytest.fixture(scope="module")
def three_steps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three steps with a checkpoint each, as a kill after the third leaves it."""
    import whet as api

    folder = tmp_path_factory.mktemp("three")
    keys = {"data.holdout": 0, "batch": 4, "checkpoint.every": 1, "checkpoint.keep": 3}
    data = write(folder / "chats.jsonl", CHATS)
    run = api.run("sft", model="lab:base", data=data, steps=4, out=folder / "run", **keys)
    (stage,) = run.stages
    for name in ("run/done.json", "run/table.json", "run/report.html"):
        (folder / name).unlink()
    (stage / "done.json").unlink()
    shutil.rmtree(stage / "final")
    return folder


def resume(folder: Path, three_steps: Path) -> tuple[tuple[str, ...], Path]:
    shutil.copytree(three_steps / "run", folder / "run")
    keys = ("data.holdout=0", "batch=4", "checkpoint.every=1", "checkpoint.keep=3")
    words = ("run", "sft", "model=lab:base", f"data={three_steps / 'chats.jsonl'}", "steps=4", *keys)
    return (*words, "--out", "run", "--resume"), folder / "run/stages/01-sft/checkpoints"


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 4
    file.write_bytes(data)


@pytest.mark.parametrize("broken", ["cut", "flipped", "manifest", "gone"])
def test_a_broken_checkpoint_is_passed_over(whet: Whet, tmp_path: Path, three_steps: Path, broken: str) -> None:
    """The older one is taken, which is said, and the run ends as it would have."""
    words, checkpoints = resume(tmp_path, three_steps)
    weights = checkpoints / "step_4" / "policy.safetensors"
    if broken == "cut":
        weights.write_bytes(weights.read_bytes()[:1000])
    elif broken == "flipped":
        flip(weights)
    elif broken == "manifest":
        flip(checkpoints / "step_4" / "MANIFEST.json")
    else:
        weights.unlink()
    said = whet(*words)
    assert said.code == 0 and "warning: step_4 was passed over: " in said.err, said
    stage = checkpoints.parent
    metrics = (three_steps / "run/stages/01-sft/metrics.jsonl").read_bytes()
    assert (stage / "metrics.jsonl").read_bytes() == metrics
    assert list(stage.glob("metrics.set_aside-*")) and list(checkpoints.glob("broken_step_4-*")), "nothing is deleted"


def test_checkpoints_that_are_all_broken(whet: Whet, tmp_path: Path, three_steps: Path) -> None:
    words, checkpoints = resume(tmp_path, three_steps)
    for weights in checkpoints.glob("*/policy.safetensors"):
        flip(weights)
    before = tree(tmp_path / "run")
    said = whet(*words).refused(RUN, "no checkpoint in ", "is whole (step_4: policy.safetensors was changed", "step_2:")
    assert "restore one from a copy" in said.sentence
    after = tree(tmp_path / "run")
    assert {name for name in before if before[name] != after.get(name)} <= {
        f"{place}{name}" for place in ("", "stages/01-sft/") for name in (".lock", "events.jsonl")
    }


@pytest.mark.parametrize("words", [("report", "runs"), ("report", "nowhere")])
def test_a_folder_that_is_no_run(whet: Whet, words: tuple[str, ...]) -> None:
    Path("runs").mkdir()
    whet(*words).refused(RUN, f"{words[1]} is not a run folder")


def test_a_chat_with_no_model(whet: Whet) -> None:
    whet("chat", "nomodel").refused(MODEL, "nomodel is no folder")


# ------------------------------------------------------------------------------------------ optional packages, alarms


@pytest.mark.parametrize(
    ("module", "words", "pip"),
    [
        ("peft", (*DPO, "lora=true"), "pip install 'whet[lora]'"),
        ("pyarrow.parquet", [w.replace("pairs.jsonl", "pairs.parquet") for w in DPO], "pip install 'whet[datasets]'"),
        ("wandb", (*DPO, "track=[wandb]"), "pip install 'whet[wandb]'"),
        ("torch.utils.tensorboard.writer", (*DPO, "track=[tensorboard]"), "pip install 'whet[tensorboard]'"),
    ],
)
def test_a_missing_package(
    whet: Whet, monkeypatch: pytest.MonkeyPatch, module: str, words: tuple[str, ...], pip: str
) -> None:
    Path("pairs.parquet").write_bytes(b"")
    monkeypatch.setitem(sys.modules, module, None)
    whet(*words).refused(MissingExtra.exit_code, pip)


@pytest.mark.parametrize("words", [SFT, (*GRPO, "reward=my.py:good")])
def test_prompts_that_are_learned_from_and_held_out_raise_an_alarm(whet: Whet, words: tuple[str, ...]) -> None:
    name = next(word.partition("=")[2] for word in words if word.startswith("data="))
    words = tuple(word for word in words if not word.startswith("steps="))
    said = whet(*words, "steps=1", f"eval.data.path={name}", "--out", "run")
    assert said.code == 0
    alarm = "12 of 12 test prompts are also trained on"
    assert f"warning: {alarm}" in said.err and alarm in Path("run/report.html").read_text()
