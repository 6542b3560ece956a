// A request's seats by age: which is the coldest, and which are the coldest few.
//
// A scan over a buffer is the dearest part of a plan, and what limits it is the number of instructions: hence last uses
// are compared as they are, and binned by a conversion to floating point.
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

// One request as its block sees it.
struct Request {
    int row, length, now, size;
    int* where;
    const int *home, *buffer;
};

constexpr int BINS = 1024;  // 0: empty seats; then oldest to youngest
constexpr int YOUNGEST_BIN = 991;

// Ages in 32 bins an octave, so exactly up to 64 steps: the leading bits of a floating-point number. Seats in use in this
// step get a number beyond BINS.
__device__ __forceinline__ int bin_of(int last_use, int now) {
    int age = last_use == 0 ? 0x7fffffff : now - last_use;
    return YOUNGEST_BIN + (127 << 5) - (__float_as_int(__int2float_rz(age)) >> 18);
}

// B seats of each thread: seats `first + i * blockDim + thread`, and their last uses; `now` for what is no seat.
template <int B>
struct Seats {
    int slot[B], used[B];

    __device__ __forceinline__ void load_slots(const PlanArgs& a, const Request& r, int first) {
#pragma unroll
        for (int i = 0; i < B; ++i) {
            int seat = first + i * blockDim.x + threadIdx.x;
            slot[i] = seat < a.max_buffer ? r.buffer[seat] : NONE;
        }
    }

    // The size need not be known before the slots are under way.
    __device__ __forceinline__ void load_used(const PlanArgs& a, const Request& r, int first) {
#pragma unroll
        for (int i = 0; i < B; ++i) {
            bool real = static_cast<int>(first + i * blockDim.x + threadIdx.x) < r.size;
            used[i] = r.now;
            if (real) used[i] = a.last_use[slot[i]];
        }
    }

    __device__ __forceinline__ void load(const PlanArgs& a, const Request& r, int first) {
        load_slots(a, r, first);
        load_used(a, r, first);
    }
};

// A seat that might be given away, and who sits there.
struct Seat {
    int used, slot, position;

    template <int B>
    __device__ __forceinline__ void take_older(const Seats<B>& seats) {
#pragma unroll
        for (int i = 0; i < B; ++i) {
            if (seats.used[i] < used) used = seats.used[i], slot = seats.slot[i];
        }
    }
};

struct PlanShared {
    uint4 histogram[BINS / 4];
    Seat warp_seats[WARP];
    int warp_sums[WARP], warp_ties[WARP], warp_bins[WARP], warp_wanted[WARP];
    int first_copy, threshold, ties_taken, evictions;

    __device__ __forceinline__ int* bins() { return reinterpret_cast<int*>(histogram); }
};

// The oldest of all threads' seats, for every thread.
__device__ __forceinline__ Seat oldest_of_warp(Seat seat) {
    int least = __reduce_min_sync(ALL_LANES, seat.used);
    int lane = __ffs(__ballot_sync(ALL_LANES, seat.used == least)) - 1;
    return {least, __shfl_sync(ALL_LANES, seat.slot, lane), __shfl_sync(ALL_LANES, seat.position, lane)};
}

__device__ __forceinline__ Seat oldest_of_block(Seat seat, int now, PlanShared& s) {
    seat = oldest_of_warp(seat);
    if (lane_id() == 0) s.warp_seats[warp_id()] = seat;
    __syncthreads();
    return oldest_of_warp(lane_id() < num_warps() ? s.warp_seats[lane_id()] : Seat{now, NONE, NONE});
}

// The coldest seat of a buffer longer than the seats at hand; from the last on, where a buffer that has grown is empty.
template <int B>
__device__ __forceinline__ Seat coldest_of_long(const PlanArgs& a, const Request& r, PlanShared& s) {
    Seat seat{r.now, NONE, NONE};
    int chunk = B * blockDim.x;
    for (int first = (r.size - 1) / chunk * chunk; first >= 0; first -= chunk) {
        Seats<B> seats;
        seats.load(a, r, first);
        seat.take_older(seats);
        if (__syncthreads_or(seat.used == 0)) break;
    }
    if (seat.slot >= 0) seat.position = a.position_at[seat.slot];
    return oldest_of_block(seat, r.now, s);
}

// The seats at hand are as they were before this step's hits were marked, and `seat` is the thread's coldest of them.
template <int B>
__device__ __forceinline__ Seat coldest_seat(const PlanArgs& a, const Request& r, PlanShared& s, Seats<B>& seats,
                                             Seat seat) {
    if (r.size > B * static_cast<int>(blockDim.x)) return coldest_of_long<B>(a, r, s);
    if (seat.slot >= 0 && a.last_use[seat.slot] == r.now) {  // saved by a hit
        seats.load_used(a, r, 0);
        seat = {r.now, NONE, NONE};
        seat.take_older(seats);
        if (seat.slot >= 0) seat.position = a.position_at[seat.slot];
    }
    return oldest_of_block(seat, r.now, s);
}

template <int B>
__device__ __forceinline__ void count_ages(const PlanArgs& a, const Request& r, PlanShared& s, Seats<B>& seats) {
    for (int first = 0; first < r.size; first += B * blockDim.x) {
        if (first > 0) seats.load_slots(a, r, first);
        seats.load_used(a, r, first);
#pragma unroll
        for (int i = 0; i < B; ++i) {
            int bin = bin_of(seats.used[i], r.now);
            if (bin < BINS) atomicAdd(&s.bins()[bin], 1);
        }
    }
}

// The oldest bin with which `needed` seats are there, and how many of that bin are to be taken. Few threads search.
__device__ __forceinline__ void find_threshold(PlanShared& s, int needed) {
    int searchers = blockDim.x < 128 ? blockDim.x : 128, each = BINS / searchers, first = threadIdx.x * each;
    bool searches = static_cast<int>(threadIdx.x) < searchers;
    int mine = 0, before = 0;
    if (threadIdx.x == 0) s.threshold = BINS, s.ties_taken = 0;  // too few seats: all of them
    if (searches) {
        for (int i = 0; i < each; i += 4) {
            uint4 bins = s.histogram[(first + i) / 4];
            mine += bins.x + bins.y + bins.z + bins.w;
        }
        before = publish_sum(mine, s.warp_bins);
    }
    __syncthreads();
    if (searches) {
        int sum = lane_id() < warp_id() ? s.warp_bins[lane_id()] : 0;
        before += __reduce_add_sync(ALL_LANES, sum);
        if (before < needed && needed <= before + mine) {
            int bin = first, left = needed - before;
            while (left > s.bins()[bin]) left -= s.bins()[bin++];
            s.threshold = bin, s.ties_taken = left;
        }
    }
    __syncthreads();
}

// Fills `victims` (shared) with `needed` slots, the oldest seats', and empties these; a barrier is to follow.
template <int B>
__device__ __forceinline__ void take_victims(const PlanArgs& a, const Request& r, PlanShared& s, Seats<B>& seats,
                                             int needed, int* victims) {
    find_threshold(s, needed);
    MARK(8);
    const int chunk = B * blockDim.x, threshold = s.threshold, ties_taken = s.ties_taken;
    int older = 0, ties = 0, evicted = 0;
    bool reload = r.size > chunk;
    for (int first = 0; first < r.size; first += chunk) {
        if (reload) seats.load(a, r, first);
#pragma unroll
        for (int i = 0; i < B; ++i) {
            int bin = bin_of(seats.used[i], r.now);
            older += bin < threshold, ties += bin == threshold;
        }
    }
    int older_before = publish_sum(older, s.warp_sums), ties_before = publish_sum(ties, s.warp_ties);
    __syncthreads();
    MARK(9);
    Sums all = collect_sum(older_before, s.warp_sums);
    int rank = all.before, tie = collect_sum(ties_before, s.warp_ties).before;
    for (int first = 0; first < r.size; first += chunk) {
        if (reload) seats.load(a, r, first);
        int gone[B];
#pragma unroll
        for (int i = 0; i < B; ++i) {
            int at = NONE, bin = bin_of(seats.used[i], r.now);
            if (bin < threshold) at = rank++;
            if (bin == threshold && tie++ < ties_taken) at = all.total + tie - 1;
            if (at >= 0) victims[at] = seats.slot[i];
            gone[i] = at >= 0 && bin > 0 ? a.position_at[seats.slot[i]] : NONE;
        }
#pragma unroll
        for (int i = 0; i < B; ++i) {
            if (gone[i] >= 0) r.where[gone[i]] = NONE, ++evicted;
        }
    }
    evicted = __reduce_add_sync(ALL_LANES, evicted);
    if (lane_id() == 0 && evicted) atomicAdd(&s.evictions, evicted);
}
