// Plans one group's swap-in, a block for each request: look up, mark hits, and only where something is absent choose
// victims, oldest first.
#pragma once

#include "seats.cuh"

template <int V>
struct __align__(4 * V) Run {
    int at[V];
};

// V neighbours of a list of k ints, NONE beyond its end.
template <int V>
__device__ __forceinline__ void load_run(int (&to)[V], const int* list, int first, int k, bool vectors) {
    if (vectors) {
        Run<V> run;
#pragma unroll
        for (int v = 0; v < V; ++v) run.at[v] = NONE;
        if (first < k) run = *reinterpret_cast<const Run<V>*>(list + first);
#pragma unroll
        for (int v = 0; v < V; ++v) to[v] = run.at[v];
    } else {
#pragma unroll
        for (int v = 0; v < V; ++v) to[v] = first + v < k ? list[first + v] : NONE;
    }
}

template <int V>
__device__ __forceinline__ void store_run(const int (&from)[V], int* list, int first, int k, bool vectors) {
    if (vectors) {
        Run<V> run;
#pragma unroll
        for (int v = 0; v < V; ++v) run.at[v] = from[v];
        if (first < k) *reinterpret_cast<Run<V>*>(list + first) = run;
    } else {
#pragma unroll
        for (int v = 0; v < V; ++v) {
            if (first + v < k) list[first + v] = from[v];
        }
    }
}

// Gives `position` the seat `slot`; whoever sat there has lost it already.
__device__ __forceinline__ void sit(const PlanArgs& a, const Request& r, int position, int slot) {
    r.where[position] = slot;
    a.position_at[slot] = position;
    a.last_use[slot] = r.now;
}

__device__ __forceinline__ void count(const PlanArgs& a, int what, int rows) {
    if (rows) atomicAdd(&a.counts[what], static_cast<unsigned long long>(rows) * a.num_layers);
}

// Whether the block's positions might not ascend strictly, NONE last. Then, and only then, one may be there twice.
template <int V>
__device__ __forceinline__ bool out_of_order(const PlanArgs& a, long long batch_first, const int (&position)[V]) {
    int next = __shfl_down_sync(ALL_LANES, position[0], 1), after = threadIdx.x * V + V;
    if (lane_id() == WARP - 1) next = after < a.k ? a.positions[batch_first + after] : NONE;
    bool wrong = false;
#pragma unroll
    for (int v = 0; v < V; ++v) {  // as unsigned numbers, NONE is the greatest
        unsigned here = position[v], then = v + 1 < V ? position[v + 1] : next;
        wrong |= here >= then && then != static_cast<unsigned>(NONE);
    }
    return wrong;
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

// Threads × V hold all of `positions`. Shared memory: the table of claims, then the k + 1 victims.
template <int V, int B>
__global__ void __launch_bounds__(V == 4 ? 512 : 1024, V == 4 ? 2 : 1) plan_swap_in(KERNEL_ARGS PlanArgs a) {
    DYNAMIC_SHARED(int, table);
    __shared__ PlanShared s;
    int* victims = table + a.table_size;
    wait_for_predecessors();
    allow_successors();
    MARK(0);

    const long long batch_first = static_cast<long long>(blockIdx.x) * a.k;
    const int first = threadIdx.x * V;
    Request r;
    r.row = a.rows[blockIdx.x], r.length = a.lengths[blockIdx.x], r.now = a.now[0];
    int position[V], slot[V];
    load_run<V>(position, a.positions + batch_first, first, a.k, a.vectors);
    for (int i = threadIdx.x; i < BINS / 4; i += blockDim.x) s.histogram[i] = uint4{0, 0, 0, 0};
    if (threadIdx.x == 0) s.evictions = 0;
    MARK(1);
    if (r.row < 0 || r.length <= 0) {
        for (int v = 0; v < V; ++v) slot[v] = NONE;
        store_run<V>(slot, a.slots + batch_first, first, a.k, a.vectors);
        if (threadIdx.x == 0) a.newest[blockIdx.x] = NONE;
        return;
    }
    long long start = a.start[r.row];
    r.size = a.buffer_size[r.row];
    r.buffer = a.buffer + static_cast<long long>(r.row) * a.max_buffer;
    r.where = a.where + start, r.home = a.home + start;
    const int newest = r.length - 1;

    // The seats' ages are read before the hits are marked: what is old then is a candidate, whom a hit may still save.
    Seats<B> seats;
    seats.load_slots(a, r, 0);
    int newest_slot = r.where[newest], wanted = 0;
#pragma unroll
    for (int v = 0; v < V; ++v) {
        slot[v] = NONE;
        if (position[v] >= 0) slot[v] = r.where[position[v]];
    }
    seats.load_used(a, r, 0);
    MARK(2);
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
    if (lane_id() == 0) s.warp_wanted[warp_id()] = wanted;
    Seat seat{r.now, NONE, NONE};
    seat.take_older(seats);
    if (seat.slot >= 0) seat.position = a.position_at[seat.slot];
    MARK(3);

    int num_misses = 0;
    bool any_miss = __syncthreads_or(misses);
    MARK(4);
    if (!any_miss) {
        if (newest_slot < 0) {
            seat = coldest_seat(a, r, s, seats, seat);
            MARK(6);
            newest_slot = seat.slot;
            if (threadIdx.x == 0 && newest_slot >= 0) {
                if (seat.position >= 0) r.where[seat.position] = NONE, s.evictions = 1;
                sit(a, r, newest, newest_slot);
            }
        }
    } else {
        bool mine[V];
        int owned = 0, from[V];
        if (__syncthreads_or(out_of_order(a, batch_first, position))) {
            for (int i = threadIdx.x; i < a.table_size; i += blockDim.x) table[i] = NONE;
            __syncthreads();
            for (int v = 0; v < V; ++v) {
                mine[v] = position[v] >= 0 && slot[v] < 0 && position[v] != newest;
                mine[v] = mine[v] && claim(table, a.table_size, position[v]);
            }
        } else {
#pragma unroll
            for (int v = 0; v < V; ++v) mine[v] = position[v] >= 0 && slot[v] < 0 && position[v] != newest;
        }
#pragma unroll
        for (int v = 0; v < V; ++v) {
            from[v] = NONE;
            if (mine[v]) from[v] = r.home[position[v]];
            owned += mine[v];
        }
        MARK(5);
        int before = publish_sum(owned, s.warp_sums);
        count_ages(a, r, s, seats);
        MARK(6);
        __syncthreads();
        MARK(7);
        Sums rank = collect_sum(before, s.warp_sums);
        num_misses = rank.total;
        for (int i = threadIdx.x; i <= num_misses; i += blockDim.x) victims[i] = NONE;
        int first_copy = threadIdx.x == 0 ? atomicAdd(a.num_copies, num_misses) : 0;
        bool seat_newest = newest_slot < 0;
        take_victims(a, r, s, seats, num_misses + seat_newest, victims);
        MARK(10);
        if (threadIdx.x == 0) s.first_copy = first_copy;  // by now it has arrived
        __syncthreads();
        MARK(11);
        if (seat_newest) newest_slot = victims[num_misses];
        int at = rank.before;
#pragma unroll
        for (int v = 0; v < V; ++v) {
            if (!mine[v]) continue;
            int to = victims[at], entry = s.first_copy + at++;
            if (to >= 0) sit(a, r, position[v], to);
            a.slots[batch_first + first + v] = to;
            a.copy_from[entry] = from[v];
            a.copy_to[entry] = to;
        }
        if (threadIdx.x == 0 && seat_newest && newest_slot >= 0) sit(a, r, newest, newest_slot);
        MARK(12);
        __syncthreads();
        MARK(13);
#pragma unroll
        for (int v = 0; v < V; ++v) {  // another's claim
            bool absent = position[v] >= 0 && slot[v] < 0 && position[v] != newest;
            if (absent && !mine[v]) a.slots[batch_first + first + v] = r.where[position[v]];
        }
    }
#pragma unroll
    for (int v = 0; v < V; ++v) {
        if (position[v] == newest && slot[v] < 0) a.slots[batch_first + first + v] = newest_slot;
    }
    if (warp_id() == 0) {
        int lookups = __reduce_add_sync(ALL_LANES, lane_id() < num_warps() ? s.warp_wanted[lane_id()] : 0);
        if (lane_id() == 0) {
            a.newest[blockIdx.x] = newest_slot;
            count(a, 0, lookups);
            count(a, 1, num_misses);
            count(a, 2, s.evictions);
        }
    }
    MARK(15);
}
