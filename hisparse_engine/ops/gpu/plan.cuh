// Plans one group's swap-in, a team of blocks for each request: look up, mark hits, and only where something is absent
// choose victims, oldest first.
#pragma once

#include "runs.cuh"
#include "seats.cuh"

// Gives `position` the seat `slot`; whoever sat there has lost it already.
__device__ __forceinline__ void sit(const PlanArgs& a, const Request& r, int position, int slot) {
    r.where[position] = slot;
    a.position_at[slot] = position;
    a.last_use[slot] = r.now;
}

__device__ __forceinline__ void count(const PlanArgs& a, int what, int rows) {
    if (rows) atomicAdd(&a.counts[what], static_cast<unsigned long long>(rows) * a.num_layers);
}

constexpr int DISORDER = 1 << 16;  // in a sum of misses

// The team's sum of `value`, and of the threads before this one. Tells the others this block's oldest seat on the way.
__device__ __forceinline__ Sums team_sum(const Request& r, PlanShared& s, int value, Seat seat) {
    int before = publish_sum(value, s.warp_sums);
    seat = oldest_of_warp(seat);
    if (lane_id() == 0) s.warp_seats[warp_id()] = seat;
    __syncthreads();
    if (warp_id() == 0) {
        bool real = lane_id() < num_warps();
        int total = __reduce_add_sync(ALL_LANES, real ? s.warp_sums[lane_id()] : 0);
        seat = oldest_of_warp(real ? s.warp_seats[lane_id()] : seat);
        if (lane_id() < r.team.blocks) {
            *in_block(&s.team_misses[r.team.rank], lane_id()) = total;
            *in_block(&s.team_seats[r.team.rank], lane_id()) = seat;
        }
    }
    before = collect_sum(before, s.warp_sums).before;
    r.team.barrier();
    int theirs = lane_id() < r.team.blocks ? s.team_misses[lane_id()] : 0;
    before += __reduce_add_sync(ALL_LANES, lane_id() < r.team.rank ? theirs : 0);
    return {before, static_cast<int>(__reduce_add_sync(ALL_LANES, theirs))};
}

// A seat that is taken, and the position that loses it.
struct Taken {
    int slot, gone;
};

// A seat for the newest position, by one block: the coldest of the team's candidates, which are `at_hand` seats as they were
// before the hits were marked. A longer buffer is searched; where that would take long and no seat need be empty, the
// candidates do. All threads of the block call.
__device__ __forceinline__ Taken coldest_seat(const PlanArgs& a, const Request& r, PlanShared& s, int at_hand) {
    if (r.length <= r.size) {  // a buffer that grows with its sequence has its next seat empty
        int next = r.buffer[r.length - 1];
        if (!__syncthreads_or(a.last_use[next] != 0)) return {next, NONE};
    }
    Seat seat{r.now, NONE};
    int gone = NONE;
    if (lane_id() < r.team.blocks) seat = s.team_seats[lane_id()];
    if (seat.slot >= 0) seat.used = a.last_use[seat.slot], gone = a.position_at[seat.slot];
    Seat oldest = oldest_of_warp(seat);
    gone = __shfl_sync(ALL_LANES, gone, __ffs(__ballot_sync(ALL_LANES, seat.slot == oldest.slot)) - 1);
    bool enough = r.size <= at_hand || (r.size > 4 * at_hand && r.size < r.length);
    if (enough && oldest.used != r.now) return {oldest.slot, gone};
    int slot = search_coldest(a, r, s).slot;
    return {slot, slot >= 0 ? a.position_at[slot] : NONE};
}

// Team threads × V hold all of `positions`. Shared memory: PlanShared, then a victim for each position of the block.
template <int V, int B, bool ALONE>
__global__ void __launch_bounds__(V == 8 ? 1024 : 512, V == 4 ? 2 : 1) plan_swap_in(KERNEL_ARGS PlanArgs a) {
    DYNAMIC_SHARED(PlanShared, shared);
    PlanShared& s = *shared;
    int* victims = reinterpret_cast<int*>(shared + 1);
    Request r;
    r.team = Team::mine<ALONE>();
    for (int i = threadIdx.x; i < BINS / 4; i += blockDim.x) s.histogram[i] = uint4{0, 0, 0, 0};
    if (threadIdx.x == 0) s.newest_victim = s.newest_entry = NONE;
    r.team.arrive();
    wait_for_predecessors();
    allow_successors();

    const int entry = blockIdx.x / r.team.blocks;
    const int* positions = a.positions + static_cast<long long>(entry) * a.k;
    int* slots = a.slots + static_cast<long long>(entry) * a.k;
    const int first = r.team.thread * V;
    r.row = a.rows[entry], r.length = a.lengths[entry], r.now = a.now[0];
    int position[V], slot[V];
    load_run<V>(position, positions, first, a.k, a.vectors);
    int next = NONE;  // the next warp's first position
    if (lane_id() == WARP - 1 && first + V < a.k) next = positions[first + V];
    if (r.row < 0 || r.length <= 0) {
#pragma unroll
        for (int v = 0; v < V; ++v) slot[v] = NONE;
        store_run<V>(slot, slots, first, a.k, a.vectors);
        if (r.team.thread == 0) a.newest[entry] = NONE;
        r.team.wait();
        return;
    }
    const long long start = a.start[r.row];
    r.size = a.buffer_size[r.row];
    r.buffer = a.buffer + static_cast<long long>(r.row) * a.max_buffer;
    r.where = a.where + start, r.home = a.home + start;
    const int newest = r.length - 1;

    // The seats' ages are read before the hits are marked: what is old then is a candidate, whom a hit may still save.
    Seats<B> seats;
    seats.load_slots(a, r, 0);
    int newest_slot = r.where[newest];
#pragma unroll
    for (int v = 0; v < V; ++v) {
        slot[v] = NONE;
        if (position[v] >= 0) slot[v] = r.where[position[v]];
    }
    seats.load_used(a, r, 0);
    r.team.wait_for_others();  // they are there, and their shared memory is ready
    bool mine[V];
    int wanted = 0, owned = 0;
#pragma unroll
    for (int v = 0; v < V; ++v) {
        if (slot[v] >= 0) a.last_use[slot[v]] = r.now;
        if (!ALONE && position[v] == newest) *in_block(&s.newest_entry, 0) = first + v;
        wanted += position[v] >= 0;
        mine[v] = position[v] >= 0 && slot[v] < 0 && position[v] != newest;
        owned += mine[v];
    }
    store_run<V>(slot, slots, first, a.k, a.vectors);
    if (r.team.thread == 0 && newest_slot >= 0) a.last_use[newest_slot] = r.now;
    wanted = __reduce_add_sync(ALL_LANES, wanted);
    if (lane_id() == 0) s.warp_wanted[warp_id()] = wanted;
    if (out_of_order(position, next)) owned += DISORDER;
    Sums misses = team_sum(r, s, owned, oldest_of(seats, {r.now, NONE}));

    const bool disorder = misses.total >= DISORDER, seat_newest = newest_slot < 0;
    int evicted = 0;
    if (misses.total == 0) {
        if (r.team.rank > 0) {
            evicted = NONE;  // nothing more to do here
        } else if (seat_newest) {
            Taken taken = coldest_seat(a, r, s, B * r.team.threads);
            newest_slot = taken.slot;
            __syncthreads();  // all have decided by the last uses as they are
            if (threadIdx.x == 0 && newest_slot >= 0) {
                if (taken.gone >= 0) r.where[taken.gone] = NONE, evicted = 1;
                sit(a, r, newest, newest_slot);
            }
        }
    } else {
        if (disorder) {  // the first thread to claim a position brings it in
            owned = 0;
#pragma unroll
            for (int v = 0; v < V; ++v) {
                mine[v] = mine[v] && atomicCAS(&r.where[position[v]], NONE, -2) == NONE;
                owned += mine[v];
            }
            r.team.barrier();
            misses = team_sum(r, s, owned, Seat{r.now, NONE});
        }
        int from[V];
#pragma unroll
        for (int v = 0; v < V; ++v) {
            from[v] = NONE;
            if (mine[v]) from[v] = r.home[position[v]];
        }
        int first_copy = r.team.thread == 0 ? atomicAdd(a.num_copies, misses.total) : 0;
        const int before_block = __shfl_sync(ALL_LANES, misses.before, 0);
        if (threadIdx.x == 0) s.warp_ties[0] = before_block;
        for (int i = threadIdx.x; i < V * static_cast<int>(blockDim.x); i += blockDim.x) victims[i] = NONE;
        count_ages(a, r, s, seats);
        __syncthreads();
        const int first_rank = s.warp_ties[0];
        r.team.barrier();
        int gone[B];
        evicted = take_victims(a, r, s, seats, misses.total + seat_newest, victims, gone);
        if (r.team.thread == 0) {  // by now it has arrived
            for (int block = 0; block < r.team.blocks; ++block) *in_block(&s.first_copy, block) = first_copy;
        }
        r.team.barrier();
        if (r.size <= B * r.team.threads) {  // not before the barrier, which waits for what was stored
#pragma unroll
            for (int i = 0; i < B; ++i) {
                if (gone[i] >= 0) r.where[gone[i]] = NONE, ++evicted;
            }
        }
        if (seat_newest) newest_slot = s.newest_victim;  // in the first block
        int at = misses.before;
#pragma unroll
        for (int v = 0; v < V; ++v) {
            if (!mine[v]) continue;
            int to = victims[at - first_rank], copy = s.first_copy + at++;
            if (to >= 0) {
                sit(a, r, position[v], to);
            } else {
                r.where[position[v]] = NONE;  // no claim either
            }
            slots[first + v] = to;
            a.copy_from[copy] = from[v];
            a.copy_to[copy] = to;
        }
        if (r.team.thread == 0 && seat_newest && newest_slot >= 0) sit(a, r, newest, newest_slot);
    }
    if (disorder) {  // what others have claimed, and the newest position anywhere
        r.team.barrier();
#pragma unroll
        for (int v = 0; v < V; ++v) {
            if (position[v] >= 0 && slot[v] < 0 && !mine[v]) slots[first + v] = r.where[position[v]];
        }
    }
    if (ALONE && !disorder) {
#pragma unroll
        for (int v = 0; v < V; ++v) {
            if (position[v] == newest && slot[v] < 0) slots[first + v] = newest_slot;
        }
    }
    const int num_misses = misses.total;
    evicted = __reduce_add_sync(ALL_LANES, evicted > 0 ? evicted : 0);
    if (lane_id() == 0) count(a, 2, evicted);
    if (warp_id() == 0) {
        int lookups = __reduce_add_sync(ALL_LANES, lane_id() < num_warps() ? s.warp_wanted[lane_id()] : 0);
        if (lane_id() == 0) {
            count(a, 0, lookups);
            if (r.team.rank == 0) {
                count(a, 1, num_misses);
                a.newest[entry] = newest_slot;
                if (!ALONE && !disorder && s.newest_entry >= 0) slots[s.newest_entry] = newest_slot;
            }
        }
    }
}
