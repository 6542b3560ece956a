"""What the variables of one dashboard select, and the configuration that its panels share. Draws nothing.

The Engine dashboard selects ranks, the Fleet overview whole engines, the Sidecar dashboard followed logs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hisparse_dashboards.config import Config, Thresholds
from hisparse_dashboards.queries import (
    ENGINE,
    IDENTITY,
    RATE_INTERVAL,
    TOKEN_OWNER,
    Scope,
    largest_by,
    total,
)

RANKS = ("dp_rank", "pp_rank", "tp_rank", "ep_rank")
ENGINE_KIND = "engine"
"""Which engine a recorded series is about; the label that no exporter has."""
SOURCE = "source"


@dataclass(frozen=True, slots=True)
class View:
    """The labels that are variables of a dashboard, in the order in which they are shown."""

    config: Config
    labels: tuple[str, ...]

    @property
    def limits(self) -> Thresholds:
        """The levels at which figures change colour."""
        return self.config.thresholds

    @property
    def exported(self) -> Scope:
        """What exporters say themselves, of which no label tells the kind of engine."""
        return self._scope(label for label in self.labels if label != ENGINE_KIND)

    @property
    def recorded(self) -> Scope:
        """The recorded vocabulary."""
        return self._scope(self.labels)

    @property
    def of_others(self) -> Scope:
        """The recorded vocabulary of the engines that have no stats page of ours."""
        return self.recorded.matching('engine!="hisparse"')

    @property
    def places(self) -> tuple[str, ...]:
        """The labels of this deployment that tell clusters and namespaces apart."""
        return places(self.config)

    @property
    def owner(self) -> tuple[str, ...]:
        """Whose tokens are its own."""
        return (*self.places, *TOKEN_OWNER)

    @property
    def engine(self) -> tuple[str, ...]:
        """One line on a panel that compares engines."""
        return (*self.places, *ENGINE)

    def once_per_token(self, expr: str) -> str:
        """Add up tokens or requests, counting those that several ranks of one engine share only once."""
        return total(largest_by(self.owner, expr))

    def of_every_engine(self, exported: str, recorded: str) -> str:
        """Take a figure per owner from what our pages export, and from the vocabulary where there is no page."""
        others = largest_by(self.owner, self.of_others.recorded(recorded))
        return f"{largest_by(self.owner, exported)} or {others}"

    def _scope(self, labels: Iterable[str]) -> Scope:
        return Scope(tuple(f'{label}=~"${label}"' for label in labels), RATE_INTERVAL)


def places(config: Config) -> tuple[str, ...]:
    """Return the labels that tell clusters and namespaces apart, as far as the configuration names them."""
    return tuple(label for label in (config.cluster_label, config.namespace_label) if label)


def fleet(config: Config) -> View:
    """Select engines."""
    return View(config, (*places(config), ENGINE_KIND, *(label for label in IDENTITY if label not in RANKS)))


def ranks(config: Config) -> View:
    """Select ranks."""
    return View(config, (*places(config), ENGINE_KIND, *IDENTITY))


def logs(config: Config) -> View:
    """Select followed logs, and the exporters and sidecars themselves."""
    return View(config, (*places(config), "job", "instance", SOURCE))
