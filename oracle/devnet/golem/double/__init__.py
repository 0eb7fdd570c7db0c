"""A double of yagna and of Golem providers, for tests: deterministic, quick, and faulty on demand.

provider = ProviderDouble("one")
provider.plan(Moment.TASK, Die(), nth=2)
async with YagnaDouble(folder, [provider]) as yagna:
    ...  # yapapi finds it by ``yagna.environment``
"""

from oracle.devnet.golem.double.faults import (
    ENDPOINT_NOT_FOUND,
    EVERY_TIME,
    RECEIVER_CANCELLED,
    Charge,
    Corrupt,
    Crash,
    Deed,
    Delay,
    DemandPaymentBy,
    Die,
    Fail,
    Hang,
    Ignore,
    Moment,
    Readdress,
    Refuse,
    Reject,
    SendTwice,
    TerminateActivity,
    TerminateAgreement,
    Withhold,
)
from oracle.devnet.golem.double.provider import ProviderDouble
from oracle.devnet.golem.double.runtime import FakeRuntime, HostCommands, RunResult
from oracle.devnet.golem.double.yagna import YagnaDouble

__all__ = [
    "ENDPOINT_NOT_FOUND",
    "EVERY_TIME",
    "RECEIVER_CANCELLED",
    "Charge",
    "Corrupt",
    "Crash",
    "Deed",
    "Delay",
    "DemandPaymentBy",
    "Die",
    "Fail",
    "FakeRuntime",
    "Hang",
    "HostCommands",
    "Ignore",
    "Moment",
    "ProviderDouble",
    "Readdress",
    "Refuse",
    "Reject",
    "RunResult",
    "SendTwice",
    "TerminateActivity",
    "TerminateAgreement",
    "Withhold",
    "YagnaDouble",
]
