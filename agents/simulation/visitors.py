"""Who visits and what is on the shelves, worked out from numbers: no pool is kept in memory."""

from math import exp, log
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

#: User numbers end below this, so that every user id has the same length.
MAX_USERS = 10_000_000

#: One item in so many is promoted.
PROMOTED_EVERY = 10

_CATEGORIES = (
    "books",
    "garden",
    "groceries",
    "home",
    "kids",
    "men",
    "music",
    "phones",
    "shoes",
    "sports",
    "toys",
    "women",
)
_MURMUR_SEED = np.uint32(0x9747B28C)
_MURMUR_M = np.uint32(0x5BD1E995)
_USER_ID_BYTES = 8


def lognormal_quantiles(median: float, spread: float, size: int = 4096) -> Ints:
    """Return `size` evenly spaced quantiles, rounded; one drawn at random has that log-normal distribution.

    Drawing from a table keeps exp() out of the random numbers: it differs in the last bit between machines,
    and the simulation must not.
    """
    normal = NormalDist()
    quantiles = (exp(log(median) + spread * normal.inv_cdf((k + 0.5) / size)) for k in range(size))
    return np.array([round(quantile) for quantile in quantiles], dtype=np.int64)


def _age_quantiles(size: int) -> Ints:
    normal = NormalDist(37, 11)
    quantiles = (round(normal.inv_cdf((k + 0.5) / size)) for k in range(size))
    return np.array([min(max(age, 18), 79) for age in quantiles], dtype=np.int64)


_AGES = _age_quantiles(1024)


def ages_of(users: Ints) -> Ints:
    """Return each user's age in years."""
    ages: Ints = _AGES[((users * 2654435761) >> 14) & 1023]
    return ages


#: The values of the feature `device`, as `devices_of` numbers them.
DEVICES = ("app", "desktop", "mobile", "tablet")
#: What stands for a feature that is not known.
UNKNOWN = -1

_DEVICE_TABLE = np.repeat(np.arange(UNKNOWN, len(DEVICES)), (10, 420, 240, 300, 54))
_AFFINITY_TABLE = np.array([UNKNOWN] * 40 + [k * k * 1000 // (984 * 984) for k in range(984)], dtype=np.int64)


def devices_of(users: Ints) -> Ints:
    """Return the index in DEVICES of each user's device, UNKNOWN for one in a hundred."""
    devices: Ints = _DEVICE_TABLE[((users * 2246822519) >> 15) & 1023]
    return devices


def affinities_of(users: Ints) -> Ints:
    """Return each user's liking for the shop in thousandths, low for most, UNKNOWN for 4 in 100."""
    affinities: Ints = _AFFINITY_TABLE[((users * 3266489917) >> 15) & 1023]
    return affinities


def user_ids(users: Ints) -> list[bytes]:
    """Return the user ids, "u" and seven digits."""
    ids: list[bytes] = _user_id_bytes(users).view(f"S{_USER_ID_BYTES}").ravel().tolist()
    return ids


def partitions_of(users: Ints, partitions: int) -> Ints:
    """Return the partition to which Kafka's default partitioner (murmur2) sends each user id."""
    words = _user_id_bytes(users).view("<u4")
    hashes = np.full(len(users), _MURMUR_SEED ^ np.uint32(_USER_ID_BYTES), dtype=np.uint32)
    for column in range(words.shape[1]):
        mixed = words[:, column].astype(np.uint32) * _MURMUR_M
        mixed ^= mixed >> np.uint32(24)
        mixed *= _MURMUR_M
        hashes *= _MURMUR_M
        hashes ^= mixed
    hashes ^= hashes >> np.uint32(13)
    hashes *= _MURMUR_M
    hashes ^= hashes >> np.uint32(15)
    return (hashes & np.uint32(0x7FFFFFFF)).astype(np.int64) % partitions


def _user_id_bytes(users: Ints) -> npt.NDArray[np.uint8]:
    text = np.empty((len(users), _USER_ID_BYTES), dtype=np.uint8)
    text[:, 0] = ord("u")
    rest = users
    for place in range(_USER_ID_BYTES - 1, 0, -1):
        text[:, place] = ord("0") + rest % 10
        rest = rest // 10
    return text


def price_cents_of(item: int) -> int:
    """Return an item's price, 1.99 to 199.99."""
    return 199 + (item * 2654435761 >> 7) % 199 * 100


def item_features(item: int) -> str:
    """Return the features of an item as the inside of a JSON object."""
    category = _CATEGORIES[(item * 40503 >> 4) % len(_CATEGORIES)]
    promoted = "true" if is_promoted(item) else "false"
    return f'"price":{price_cents_of(item) / 100},"category":"{category}","promoted":{promoted}'


def is_promoted(item: int) -> bool:
    """Whether the shop promotes this item."""
    return item % PROMOTED_EVERY == PROMOTED_EVERY - 1


def items_by_popularity(items: int) -> tuple[Ints, Ints]:
    """Return the numbers of the ordinary and of the promoted items, the most popular first."""
    numbers = np.arange(items, dtype=np.int64)
    promoted = numbers % PROMOTED_EVERY == PROMOTED_EVERY - 1
    return numbers[~promoted], numbers[promoted]


def popular_ranks(uniform: Floats, sizes: Ints | int, *, skew: int) -> Ints:
    """Turn uniform numbers into ranks below `sizes`, Zipf-like with exponent 1 - 1/skew.

    Powers by multiplication only: exact, so the same on every machine.
    """
    powers = uniform.copy()
    for _ in range(skew - 1):
        powers *= uniform
    # The product may round up to the size itself.
    ranks: Ints = np.minimum((powers * sizes).astype(np.int64), np.asarray(sizes) - 1)
    return ranks
