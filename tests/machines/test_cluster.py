"""Which processes there are: by TF_CONFIG, also as a TFJob sets it, and by the variables of a step of Slurm."""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path

import pytest
import typer
import yaml

from vggft.cli.main import app
from vggft.errors import ConfigError
from vggft.machines.cluster import ALONE, by_tf_config, cluster_of, on_this_machine

TFJOB = {  # what Kubeflow's operator sets in the pods of a TFJob with one chief and two workers
    "cluster": {
        "chief": ["flowers-chief-0.default.svc:2222"],
        "worker": ["flowers-worker-0.default.svc:2222", "flowers-worker-1.default.svc:2222"],
    },
    "task": {"type": "worker", "index": 1},
    "environment": "cloud",
}


def test_a_tfjob_tells_its_processes_the_chief_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_CONFIG", json.dumps(TFJOB))
    found = cluster_of()
    assert (found.size, found.rank, found.chief) == (3, 2, False)
    assert found.workers[0].startswith("flowers-chief") and found.name() == "worker 2 on flowers-worker-1.default.svc"
    chief = by_tf_config(json.dumps(TFJOB | {"task": {"type": "chief", "index": 0}}))
    assert chief.chief and by_tf_config(chief.tf_config(2)).rank == 2


@pytest.mark.parametrize(
    "text", ["{}", '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 0}}', '{"cluster": {}}']
)
def test_one_process_is_alone(text: str) -> None:
    assert by_tf_config(text) == ALONE and ALONE.chief and ALONE.size == 1


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("no json", "must be JSON like"),
        ("[]", "must be JSON like"),
        ('{"cluster": {"worker": ["a:1", "b:1"]}}', "must be JSON like"),
        ('{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 2}}', "this process among"),
        ('{"cluster": {"worker": ["a:1", "b:1"], "ps": ["c:1"]}, "task": {"type": "worker", "index": 0}}', "kind ps"),
    ],
)
def test_a_tf_config_that_cannot_be_is_told(text: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        by_tf_config(text)


def test_a_step_of_slurm_tells_its_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables that `srun --nodes 3 --ntasks 5` sets for its fourth task (srun's manual, OUTPUT ENVIRONMENT)."""
    monkeypatch.delenv("TF_CONFIG", raising=False)
    for name, value in {
        "SLURM_JOB_ID": "60123",
        "SLURM_STEP_NODELIST": "gpu[007-008],gpu12",
        "SLURM_STEP_NUM_TASKS": "5",
        "SLURM_STEP_TASKS_PER_NODE": "2(x2),1",
        "SLURM_PROCID": "3",
        "SLURM_NTASKS": "5",
    }.items():
        monkeypatch.setenv(name, value)
    found = cluster_of()
    assert found.workers == ("gpu007:10123", "gpu007:10124", "gpu008:10123", "gpu008:10124", "gpu12:10123")
    assert found.rank == 3 and found.name() == "worker 3 on gpu008" and found.named_by == "Slurm"
    monkeypatch.setenv("SLURM_PROCID", "9")
    with pytest.raises(ConfigError, match="variables of Slurm"):
        cluster_of()
    monkeypatch.delenv("SLURM_STEP_NODELIST")  # in a batch script outside of a step
    assert cluster_of() == ALONE


def test_processes_on_this_machine_have_ports_of_their_own() -> None:
    found = on_this_machine(4)
    assert len(set(found.workers)) == 4 and found.chief
    assert by_tf_config(found.tf_config(3)).workers == found.workers


FILES = Path(__file__).parents[2] / "docs" / "cluster"


def parses(words: list[str]) -> None:
    """Raise unless `vggft` understands a command; it is not run."""
    assert words[:2] == ["vggft", "finetune"]
    command = typer.main.get_command(app).commands["finetune"]  # type: ignore[attr-defined]
    found = command.make_context("finetune", words[2:]).params
    assert found["strategy"] == "multiworker" and found["resume"] and found["run_dir"]


def test_the_script_for_slurm_is_one() -> None:
    script = FILES / "vggft.slurm"
    subprocess.run(["bash", "-n", script], check=True)
    (line,) = [line for line in script.read_text().replace("\\\n", " ").splitlines() if line.startswith("srun")]
    words = shlex.split(line)
    parses(words[words.index("vggft") :])


def test_the_manifest_for_kubernetes_is_one() -> None:
    """The pods against Kubernetes' own schema; the job has what the operator looks for when it sets TF_CONFIG."""
    validate = pytest.importorskip("kubernetes_validate")
    job = yaml.safe_load((FILES / "tfjob.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("kubeflow.org/v1", "TFJob")
    replicas = job["spec"]["tfReplicaSpecs"]
    assert set(replicas) == {"Chief", "Worker"} and replicas["Chief"]["replicas"] == 1
    for each in replicas.values():
        assert each["restartPolicy"] == "OnFailure"  # or a machine that is gone would end the run
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "any"}, **each["template"]}
        validate.validate(pod, "1.30", strict=True)
        (container,) = pod["spec"]["containers"]
        assert container["name"] == "tensorflow" and container["ports"][0]["name"] == "tfjob-port"
        parses([*container["command"], *container["args"]])
