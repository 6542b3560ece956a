// Plans one group's swap-in, a block for each request: look up, mark hits, and only where something is absent choose
// victims, oldest first. Ages are exact up to EXACT_AGES steps and binned a sixteenth of an octave wide above.
#pragma once

#include "device.cuh"

struct PlanArgs {
    const long long* start;
    const int* home;
    int *where, *position_at, *last_use;  // of the group
    const int *buffer, *buffer_size, *now;
    unsigned long long* counts;  // lookups, misses, evictions
    const int *rows, *lengths, *positions;
    int *slots, *newest, *copy_from, *copy_to, *num_copies;
    int k, max_buffer, num_layers;
    int table_size;  // of the claims: a power of two, at least 2 k
    int vectors;     // whether positions and slots can be moved V at a time
};

constexpr int BINS = 1024;  // 0: empty seats; then oldest to youngest
constexpr int EXACT_AGES = 512;
constexpr int IN_USE = BINS;  // no bin: used in this step, or no seat at all

__device__ __forceinline__ int bin_of(int last_use, int now) {
    int age = now - last_use;
    if (age <= 0) return IN_USE;
    if (last_use == 0) return 0;
    if (age < EXACT_AGES) return BINS - age;
    int octave = 31 - __clz(age);
    return BINS - EXACT_AGES - ((octave - 9) * 16 + ((age >> (octave - 4)) & 15));
}

struct PlanShared {
    int histogram[BINS];
    int warp_sums[WARP], warp_ties[WARP], warp_bins[WARP];
    int warp_age[WARP], warp_slot[WARP];
    int lookups, first_copy, threshold, ties_taken, evictions;
};

// One request as its block sees it.
struct Request {
    int row, length, now, size;
    long long start;
    const int* buffer;
};

// B seats of each thread: seats `first + i * blockDim + thread`.
template <int B>
struct Seats {
    int slot[B], bin[B];

    __device__ __forceinline__ void load(const PlanArgs& a, const Request& r, int first) {
#pragma unroll
        for (int i = 0; i < B; ++i) {
            int seat = first + i * blockDim.x + threadIdx.x;
            slot[i] = seat < r.size ? r.buffer[seat] : NONE;
        }
#pragma unroll
        for (int i = 0; i < B; ++i) bin[i] = slot[i] < 0 ? r.now : a.last_use[slot[i]];
#pragma unroll
        for (int i = 0; i < B; ++i) bin[i] = bin_of(bin[i], r.now);
    }
};

template <int V>
struct __align__(4 * V) Run {
    int at[V];
};

// V neighbours of a list of k ints, NONE beyond its end.
template <int V>
__device__ __forceinline__ void load_run(int (&to)[V], const int* list, int first, int k, bool vectors) {
    if (vectors && first < k) {
        Run<V> run = *reinterpret_cast<const Run<V>*>(list + first);
#pragma unroll
        for (int v = 0; v < V; ++v) to[v] = run.at[v];
    } else {
#pragma unroll
        for (int v = 0; v < V; ++v) to[v] = first + v < k ? list[first + v] : NONE;
    }
}

template <int V>
__device__ __forceinline__ void store_run(const int (&from)[V], int* list, int first, int k, bool vectors) {
    if (vectors && first < k) {
        Run<V> run;
#pragma unroll
        for (int v = 0; v < V; ++v) run.at[v] = from[v];
        *reinterpret_cast<Run<V>*>(list + first) = run;
    } else {
#pragma unroll
        for (int v = 0; v < V; ++v) {
            if (first + v < k) list[first + v] = from[v];
        }
    }
}

// Gives `position` the seat `slot`; whoever sat there must have lost it already.
__device__ __forceinline__ void sit(const PlanArgs& a, const Request& r, int position, int slot) {
    a.where[r.start + position] = slot;
    a.position_at[slot] = position;
    a.last_use[slot] = r.now;
}

// Takes the seat from whom it has; returns 1 when there was somebody.
__device__ __forceinline__ int evict(const PlanArgs& a, const Request& r, int slot) {
    int position = a.position_at[slot];
    if (position < 0) return 0;
    a.where[r.start + position] = NONE;
    return 1;
}

// The coldest seat of the buffer, for every thread; from the last seats on, where a buffer that has just grown is empty.
template <int B>
__device__ __forceinline__ int coldest_seat(const PlanArgs& a, const Request& r, PlanShared& s) {
    int best = IN_USE, slot = NONE;
    int chunk = B * blockDim.x, first = (r.size - 1) / chunk * chunk;
    bool is_long = first > 3 * chunk;
    for (; first >= 0; first -= chunk) {
        Seats<B> seats;
        seats.load(a, r, first);
#pragma unroll
        for (int i = 0; i < B; ++i) {
            if (seats.bin[i] < best) best = seats.bin[i], slot = seats.slot[i];
        }
        if (is_long && __syncthreads_or(best == 0)) break;
    }
    int least = __reduce_min_sync(ALL_LANES, best);
    unsigned candidates = __ballot_sync(ALL_LANES, best == least);
    if (lane_id() == __ffs(candidates) - 1) s.warp_age[warp_id()] = best, s.warp_slot[warp_id()] = slot;
    __syncthreads();
    best = lane_id() < num_warps() ? s.warp_age[lane_id()] : IN_USE;
    slot = lane_id() < num_warps() ? s.warp_slot[lane_id()] : NONE;
    least = __reduce_min_sync(ALL_LANES, best);
    candidates = __ballot_sync(ALL_LANES, best == least);
    return __shfl_sync(ALL_LANES, slot, __ffs(candidates) - 1);
}

// Whether this thread is the first to miss `position`. `table` is shared: NONE, or a position.
__device__ __forceinline__ bool claim(int* table, int table_size, int position) {
    unsigned i = static_cast<unsigned>(position) * 2654435761u;
    for (;; ++i) {
        int found = atomicCAS(&table[i & (table_size - 1)], NONE, position);
        if (found == NONE) return true;
        if (found == position) return false;
    }
}

// The oldest bin with which `needed` seats are there, and how many of that bin are to be taken.
__device__ __forceinline__ void find_threshold(PlanShared& s, int needed) {
    int per_thread = BINS / blockDim.x, first = threadIdx.x * per_thread, mine = 0;
    for (int i = 0; i < per_thread; ++i) mine += s.histogram[first + i];
    Sums sums = {publish_sum(mine, s.warp_bins), 0};
    if (threadIdx.x == 0) s.threshold = BINS, s.ties_taken = 0;  // too few seats: all of them
    __syncthreads();
    sums = collect_sum(sums.before, s.warp_bins);
    if (sums.before < needed && needed <= sums.before + mine) {
        int bin = first, left = needed - sums.before;
        while (left > s.histogram[bin]) left -= s.histogram[bin++];
        s.threshold = bin, s.ties_taken = left;
    }
    __syncthreads();
}

// Fills `victims` (shared, in seat order of the threads) with `needed` slots, the oldest seats', and evicts their rows.
template <int B>
__device__ __forceinline__ void take_victims(const PlanArgs& a, const Request& r, PlanShared& s, Seats<B>& seats,
                                             int needed, int* victims) {
    find_threshold(s, needed);
    int chunk = B * blockDim.x, older = 0, ties = 0, evicted = 0;
    bool reload = r.size > chunk;
    for (int first = 0; first < r.size; first += chunk) {
        if (reload) seats.load(a, r, first);
#pragma unroll
        for (int i = 0; i < B; ++i) older += seats.bin[i] < s.threshold, ties += seats.bin[i] == s.threshold;
    }
    int older_before = publish_sum(older, s.warp_sums), ties_before = publish_sum(ties, s.warp_ties);
    __syncthreads();
    Sums all = collect_sum(older_before, s.warp_sums);
    int rank = all.before, tie = collect_sum(ties_before, s.warp_ties).before;
    for (int first = 0; first < r.size; first += chunk) {
        if (reload) seats.load(a, r, first);
#pragma unroll
        for (int i = 0; i < B; ++i) {
            int at = NONE;
            if (seats.bin[i] < s.threshold) at = rank++;
            if (seats.bin[i] == s.threshold && tie++ < s.ties_taken) at = all.total + tie - 1;
            if (at >= 0) {
                victims[at] = seats.slot[i];
                evicted += evict(a, r, seats.slot[i]);
            }
        }
    }
    evicted = __reduce_add_sync(ALL_LANES, evicted);
    if (lane_id() == 0 && evicted) atomicAdd(&s.evictions, evicted);
}

__device__ __forceinline__ void count(const PlanArgs& a, int what, int rows) {
    if (rows) atomicAdd(&a.counts[what], static_cast<unsigned long long>(rows) * a.num_layers);
}

// Threads × V hold all of `positions`. Shared memory: the table of claims, then the k + 1 victims.
template <int V, int B>
__global__ void __launch_bounds__(V == 4 ? 512 : 1024) plan_swap_in(KERNEL_ARGS PlanArgs a) {
    DYNAMIC_SHARED(int, table);
    __shared__ PlanShared s;
    int* victims = table + a.table_size;
    for (int i = threadIdx.x; i < BINS; i += blockDim.x) s.histogram[i] = 0;
    for (int i = threadIdx.x; i < a.table_size; i += blockDim.x) table[i] = NONE;
    if (threadIdx.x == 0) s.lookups = s.evictions = 0;
    __syncthreads();
    wait_for_predecessors();
    allow_successors();

    const long long batch_first = static_cast<long long>(blockIdx.x) * a.k;
    const int first = threadIdx.x * V;
    Request r;
    r.row = a.rows[blockIdx.x], r.length = a.lengths[blockIdx.x], r.now = a.now[0];
    int position[V], slot[V];
    load_run<V>(position, a.positions + batch_first, first, a.k, a.vectors);
    if (r.row < 0 || r.length <= 0) {
        for (int v = 0; v < V; ++v) slot[v] = NONE;
        store_run<V>(slot, a.slots + batch_first, first, a.k, a.vectors);
        if (threadIdx.x == 0) a.newest[blockIdx.x] = NONE;
        return;
    }
    r.start = a.start[r.row], r.size = a.buffer_size[r.row];
    r.buffer = a.buffer + static_cast<long long>(r.row) * a.max_buffer;
    const int newest = r.length - 1;

    // Seats are brought near while the lookup is under way.
    int ahead[B];
#pragma unroll
    for (int i = 0; i < B; ++i) {
        int seat = i * blockDim.x + threadIdx.x;
        ahead[i] = seat < a.max_buffer ? r.buffer[seat] : NONE;
    }
    int newest_slot = a.where[r.start + newest], wanted = 0;
#pragma unroll
    for (int v = 0; v < V; ++v) slot[v] = position[v] < 0 ? NONE : a.where[r.start + position[v]];
#pragma unroll
    for (int i = 0; i < B; ++i) {
        if (i * blockDim.x + threadIdx.x < r.size) touch(a.last_use + ahead[i]), touch(a.position_at + ahead[i]);
    }
    bool misses = false;
#pragma unroll
    for (int v = 0; v < V; ++v) {
        if (slot[v] >= 0) a.last_use[slot[v]] = r.now;
        wanted += position[v] >= 0;
        misses |= position[v] >= 0 && slot[v] < 0 && position[v] != newest;
    }
    store_run<V>(slot, a.slots + batch_first, first, a.k, a.vectors);
    if (threadIdx.x == 0 && newest_slot >= 0) a.last_use[newest_slot] = r.now;
    wanted = __reduce_add_sync(ALL_LANES, wanted);
    if (lane_id() == 0) atomicAdd(&s.lookups, wanted);

    int num_misses = 0;
    if (!__syncthreads_or(misses)) {
        if (newest_slot < 0) {
            newest_slot = coldest_seat<B>(a, r, s);
            if (threadIdx.x == 0 && newest_slot >= 0) {
                s.evictions = evict(a, r, newest_slot);
                sit(a, r, newest, newest_slot);
            }
        }
    } else {
        bool mine[V];
        int owned = 0, from[V];
#pragma unroll
        for (int v = 0; v < V; ++v) {
            bool absent = position[v] >= 0 && slot[v] < 0 && position[v] != newest;
            mine[v] = absent && claim(table, a.table_size, position[v]);
            from[v] = mine[v] ? a.home[r.start + position[v]] : NONE;
            owned += mine[v];
        }
        int before = publish_sum(owned, s.warp_sums);
        Seats<B> seats;
        for (int at = 0; at < r.size; at += B * blockDim.x) {
            seats.load(a, r, at);
#pragma unroll
            for (int i = 0; i < B; ++i) {
                if (seats.bin[i] < IN_USE) atomicAdd(&s.histogram[seats.bin[i]], 1);
            }
        }
        __syncthreads();
        Sums rank = collect_sum(before, s.warp_sums);
        num_misses = rank.total;
        for (int i = threadIdx.x; i <= num_misses; i += blockDim.x) victims[i] = NONE;
        int first_copy = threadIdx.x == 0 ? atomicAdd(a.num_copies, num_misses) : 0;
        bool seat_newest = newest_slot < 0;
        take_victims<B>(a, r, s, seats, num_misses + seat_newest, victims);
        if (threadIdx.x == 0) s.first_copy = first_copy;  // by now it has arrived
        __syncthreads();
        if (seat_newest) newest_slot = victims[num_misses];
        int at = rank.before;
#pragma unroll
        for (int v = 0; v < V; ++v) {
            if (!mine[v]) continue;
            int to = victims[at];
            if (to >= 0) sit(a, r, position[v], to);
            a.slots[batch_first + first + v] = to;
            a.copy_from[s.first_copy + at] = from[v];
            a.copy_to[s.first_copy + at] = to;
            ++at;
        }
        if (threadIdx.x == 0 && seat_newest && newest_slot >= 0) sit(a, r, newest, newest_slot);
        __syncthreads();
#pragma unroll
        for (int v = 0; v < V; ++v) {  // duplicates of a miss
            bool absent = position[v] >= 0 && slot[v] < 0 && position[v] != newest;
            if (absent && !mine[v]) a.slots[batch_first + first + v] = a.where[r.start + position[v]];
        }
    }
#pragma unroll
    for (int v = 0; v < V; ++v) {
        if (position[v] == newest && slot[v] < 0) a.slots[batch_first + first + v] = newest_slot;
    }
    if (threadIdx.x == 0) {
        a.newest[blockIdx.x] = newest_slot;
        count(a, 0, s.lookups);
        count(a, 1, num_misses);
        count(a, 2, s.evictions);
    }
}
