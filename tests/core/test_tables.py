"""The tables of moves are complete, every state can be reached, and every state has its sentence."""

from __future__ import annotations

import ast
import inspect
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from djsup.core import listeners, model, pool, program, rollout, sleep, snapshot, template, worker
from djsup.core.moves import UnknownMoveError, step
from djsup.core.picture import WORKER_STATES

if TYPE_CHECKING:
    from enum import Enum
    from types import ModuleType


class Table(NamedTuple):
    name: str
    states: type[Enum]
    moves: type[Enum]
    table: Any
    """A mapping of states to mappings of moves to states."""
    first: Enum
    last: frozenset[Enum]


TABLES = [
    Table(
        "worker",
        worker.State,
        worker.Move,
        worker.MOVES,
        worker.State.STARTING,
        frozenset({worker.State.GONE}),
    ),
    Table(
        "template",
        template.State,
        template.Move,
        template.MOVES,
        template.State.STARTING,
        frozenset({template.State.GONE}),
    ),
    Table(
        "rollout",
        rollout.Phase,
        rollout.Move,
        rollout.MOVES,
        rollout.Phase.BINDING,
        frozenset({rollout.Phase.DONE, rollout.Phase.ROLLED_BACK, rollout.Phase.SUPERSEDED}),
    ),
    Table("program", program.State, program.Move, program.MOVES, program.State.DOWN, frozenset()),
    Table("sleep", sleep.State, sleep.Move, sleep.MOVES, sleep.State.AWAKE, frozenset()),
]
every_table = pytest.mark.parametrize("table", TABLES, ids=lambda each: each.name)


@every_table
def test_table_names_every_state(table: Table) -> None:
    assert set(table.table) == set(table.states)


@every_table
def test_every_state_can_be_reached(table: Table) -> None:
    reached, new = {table.first}, {table.first}
    while new:
        new = {after for state in new for after in table.table[state].values()} - reached
        reached |= new
    assert reached == set(table.states)


@every_table
def test_every_state_but_the_last_can_be_left_and_leads_to_an_end(table: Table) -> None:
    for state in table.states:
        assert bool(table.table[state]) is (state not in table.last), state
        reached, new = {state}, {state}
        while new:
            new = {after for each in new for after in table.table[each].values()} - reached
            reached |= new
        assert reached & (table.last or {table.first}), state


@every_table
def test_every_move_is_known_somewhere(table: Table) -> None:
    assert {move for moves in table.table.values() for move in moves} == set(table.moves)


@every_table
def test_move_that_a_state_does_not_know_raises(table: Table) -> None:
    for state in table.states:
        for move in table.moves:
            if move in table.table[state]:
                assert step(table.table, state, move) is table.table[state][move]
            else:
                with pytest.raises(UnknownMoveError, match=f"{state.name} knows no {move.name}"):
                    step(table.table, state, move)


@pytest.mark.parametrize(
    "table", [each for each in TABLES if each.name not in {"rollout", "sleep"}], ids=lambda each: each.name
)
def test_living_process_can_always_be_killed_and_can_always_exit(table: Table) -> None:
    for state in set(table.states) - {worker.State.GONE, template.State.GONE, program.State.DOWN}:
        names = {move.name for move in table.table[state]}
        assert "EXITED" in names, state
        assert "KILL" in names or state is program.State.KILLED, state


def test_every_state_of_a_worker_has_a_name_for_operators() -> None:
    assert set(WORKER_STATES) == set(worker.State)


@pytest.mark.parametrize("module", [worker, template, rollout, program, sleep, listeners, pool, model])
def test_every_member_of_an_enum_has_its_sentence(module: ModuleType) -> None:
    enums = [
        node
        for node in ast.walk(ast.parse(inspect.getsource(module)))
        if isinstance(node, ast.ClassDef) and any(ast.unparse(base) == "Enum" for base in node.bases)
    ]
    assert enums
    for enum in enums:
        body = enum.body[1:]  # its docstring comes first
        for member, sentence in zip(body[::2], body[1::2], strict=True):
            assert isinstance(member, ast.Assign), enum.name
            assert isinstance(sentence, ast.Expr), f"{enum.name}.{ast.unparse(member)} has no sentence"


def test_site_states_are_those_of_the_interface() -> None:
    assert {each.value for each in snapshot.SiteState} == {
        "starting", "serving", "degraded", "reloading", "sleeping", "backing-off", "failed", "stopping", "stopped",
    }  # fmt: skip
    assert {each.value for each in snapshot.WorkerState} == {
        "booting",
        "idle",
        "busy",
        "draining",
        "overdue",
        "gone",
    }
