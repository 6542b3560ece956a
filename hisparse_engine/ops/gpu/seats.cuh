// A request's seats by age: which is the coldest, and which are the coldest few. The blocks of a team share the seats.
//
// One multiprocessor looks up about one scattered word a cycle, so a request is shared out over several when there are
// few; last uses are compared as they are, and binned by a conversion to floating point.
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
    int vectors;  // whether positions and slots can be moved V at a time
};

// One request as its team sees it.
struct Request {
    Team team;
    int row, length, now, size;
    int* where;
    const int *home, *buffer;
};

constexpr int BINS = 512;  // 0: empty seats; then oldest to youngest
constexpr int YOUNGEST_BIN = 495;
constexpr int MOST_BLOCKS = 8;  // of a team

// Ages in 16 bins an octave, so exactly up to 32 steps: the leading bits of a floating-point number. Seats in use in this
// step get a number beyond BINS.
__device__ __forceinline__ int bin_of(int last_use, int now) {
    int age = last_use == 0 ? 0x7fffffff : now - last_use;
    return YOUNGEST_BIN + (127 << 4) - (__float_as_int(__int2float_rz(age)) >> 19);
}

// B seats of each thread: seats `first + i * team.threads + team.thread`, and their last uses; `now` for what is no seat.
template <int B>
struct Seats {
    int slot[B], used[B];

    __device__ __forceinline__ void load_slots(const PlanArgs& a, const Request& r, int first) {
        first += r.team.thread;
#pragma unroll
        for (int i = 0; i < B; ++i, first += r.team.threads) slot[i] = first < a.max_buffer ? r.buffer[first] : NONE;
    }

    // The size need not be known before the slots are under way.
    __device__ __forceinline__ void load_used(const PlanArgs& a, const Request& r, int first) {
        first += r.team.thread;
#pragma unroll
        for (int i = 0; i < B; ++i, first += r.team.threads) {
            used[i] = r.now;
            if (first < r.size) used[i] = a.last_use[slot[i]];
        }
    }

    __device__ __forceinline__ void load(const PlanArgs& a, const Request& r, int first) {
        load_slots(a, r, first);
        load_used(a, r, first);
    }
};

// A seat that might be given away, and when it was last used.
struct Seat {
    int used, slot;
};

struct PlanShared {
    uint4 histogram[BINS / 4];
    int warp_sums[WARP], warp_ties[WARP], warp_bins[WARP], warp_earlier[WARP], warp_wanted[WARP];
    Seat warp_seats[WARP];
    // What the team's blocks tell each other.
    Seat team_seats[MOST_BLOCKS];
    int team_misses[MOST_BLOCKS];
    int first_copy, newest_victim, newest_entry;
    int threshold, ties_taken, ties_before;

    __device__ __forceinline__ int* bins() { return reinterpret_cast<int*>(histogram); }
};

__device__ __forceinline__ Seat older(Seat one, Seat other) { return other.used < one.used ? other : one; }

template <int B>
__device__ __forceinline__ Seat oldest_of(const Seats<B>& seats, Seat seat) {
#pragma unroll
    for (int i = 0; i < B; ++i) seat = older(seat, {seats.used[i], seats.slot[i]});
    return seat;
}

__device__ __forceinline__ Seat oldest_of_warp(Seat seat) {
    int least = __reduce_min_sync(ALL_LANES, seat.used);
    int lane = __ffs(__ballot_sync(ALL_LANES, seat.used == least)) - 1;
    return {least, __shfl_sync(ALL_LANES, seat.slot, lane)};
}

// The coldest seat of the whole buffer, found by one block alone: when every block's candidate was saved by a hit, or the
// buffer is longer than the seats at hand. From the last seat on, where a buffer that has grown is empty.
__device__ __forceinline__ Seat search_coldest(const PlanArgs& a, const Request& r, PlanShared& s) {
    Seat seat{r.now, NONE};
    constexpr int AT_ONCE = 8;
    int chunk = AT_ONCE * blockDim.x;
    for (int end = r.size; end > 0; end -= chunk) {
        int slot[AT_ONCE];
#pragma unroll
        for (int i = 0; i < AT_ONCE; ++i) {
            int at = end - 1 - static_cast<int>(i * blockDim.x + threadIdx.x);
            slot[i] = at >= 0 ? r.buffer[at] : NONE;
        }
#pragma unroll
        for (int i = 0; i < AT_ONCE; ++i) {
            if (slot[i] >= 0) seat = older(seat, {a.last_use[slot[i]], slot[i]});
        }
        if (__syncthreads_or(seat.used == 0)) break;
    }
    seat = oldest_of_warp(seat);
    if (lane_id() == 0) s.warp_seats[warp_id()] = seat;
    __syncthreads();
    return oldest_of_warp(lane_id() < num_warps() ? s.warp_seats[lane_id()] : Seat{r.now, NONE});
}

template <int B>
__device__ __forceinline__ void count_ages(const PlanArgs& a, const Request& r, PlanShared& s, Seats<B>& seats) {
    for (int first = 0; first < r.size; first += B * r.team.threads) {
        if (first > 0) seats.load_slots(a, r, first);
        seats.load_used(a, r, first);
#pragma unroll
        for (int i = 0; i < B; ++i) {
            int bin = bin_of(seats.used[i], r.now);
            if (bin < BINS) atomicAdd(&s.bins()[bin], 1);
        }
    }
}

// Of all blocks' histograms: the oldest bin with which `needed` seats are there, and how many of that bin are to be taken.
// Returns how many seats older than that the earlier blocks of the team have. Few threads search.
__device__ __forceinline__ int find_threshold(const Request& r, PlanShared& s, int needed) {
    constexpr int EACH = 4, SEARCHERS = BINS / EACH, SEARCHING_WARPS = SEARCHERS / WARP;
    const bool searches = static_cast<int>(threadIdx.x) < SEARCHERS;
    int bins[EACH] = {}, earlier_bins[EACH] = {}, mine = 0, before = 0;
    if (threadIdx.x == 0) s.threshold = needed > 0 ? BINS : 0, s.ties_taken = s.ties_before = 0;  // too few: all of them
    if (searches) {
        uint4 theirs[MOST_BLOCKS];
#pragma unroll
        for (int block = 0; block < MOST_BLOCKS; ++block) {  // all on their way before the first is used
            theirs[block] = uint4{0, 0, 0, 0};
            if (block < r.team.blocks) theirs[block] = in_block(s.histogram, block)[threadIdx.x];
        }
#pragma unroll
        for (int block = 0; block < MOST_BLOCKS; ++block) {
            int four[EACH] = {int(theirs[block].x), int(theirs[block].y), int(theirs[block].z), int(theirs[block].w)};
#pragma unroll
            for (int i = 0; i < EACH; ++i) bins[i] += four[i], earlier_bins[i] += block < r.team.rank ? four[i] : 0;
        }
        mine = bins[0] + bins[1] + bins[2] + bins[3];
        before = publish_sum(mine, s.warp_bins);
    }
    __syncthreads();
    if (searches) {
        before += __reduce_add_sync(ALL_LANES, lane_id() < warp_id() ? s.warp_bins[lane_id()] : 0);
        int left = needed - before, older_here = 0;
#pragma unroll
        for (int i = 0; i < EACH; ++i) {
            if (left > 0 && left <= bins[i]) {
                s.threshold = threadIdx.x * EACH + i, s.ties_taken = left, s.ties_before = earlier_bins[i];
            }
            if (left > bins[i]) older_here += earlier_bins[i];
            left -= bins[i];
        }
        older_here = __reduce_add_sync(ALL_LANES, older_here);
        if (lane_id() == 0) s.warp_earlier[warp_id()] = older_here;
    }
    __syncthreads();
    int older = 0;
#pragma unroll
    for (int warp = 0; warp < SEARCHING_WARPS; ++warp) older += s.warp_earlier[warp];
    return older;
}

// Which block of the team has the miss of this rank, and that block's place for its victim.
__device__ __forceinline__ int* place_of(const Request& r, PlanShared& s, int* victims, int miss) {
    for (int block = 0; block < r.team.blocks; ++block) {
        int theirs = s.team_misses[block];
        if (miss < theirs) return in_block(victims, block) + miss;
        miss -= theirs;
    }
    return in_block(&s.newest_victim, 0);
}

// Gives each miss, and then the newest position, one of the `needed` oldest seats. Returns, for each of the thread's seats
// at hand, who is to lose it; a long buffer's are emptied at once, and only counted. A barrier is to follow.
template <int B>
__device__ __forceinline__ int take_victims(const PlanArgs& a, const Request& r, PlanShared& s, Seats<B>& seats, int needed,
                                            int* victims, int (&gone)[B]) {
    int older_before_block = find_threshold(r, s, needed);
    const int chunk = B * r.team.threads, threshold = s.threshold, ties_taken = s.ties_taken;
    const bool reload = r.size > chunk;
    int older = 0, ties = 0, evicted = 0;
    for (int first = 0; first < r.size; first += chunk) {
        if (reload) seats.load(a, r, first);
#pragma unroll
        for (int i = 0; i < B; ++i) {
            int bin = bin_of(seats.used[i], r.now);
            older += bin < threshold, ties += bin == threshold;
            gone[i] = NONE;
            if (!reload && bin <= threshold && bin > 0) gone[i] = a.position_at[seats.slot[i]];
        }
    }
    int older_before = publish_sum(older, s.warp_sums), ties_before = publish_sum(ties, s.warp_ties);
    __syncthreads();
    int rank = older_before_block + collect_sum(older_before, s.warp_sums).before;
    int tie = s.ties_before + collect_sum(ties_before, s.warp_ties).before;
    for (int first = 0; first < r.size; first += chunk) {
        if (reload) seats.load(a, r, first);
#pragma unroll
        for (int i = 0; i < B; ++i) {
            int at = NONE, bin = bin_of(seats.used[i], r.now);
            if (bin < threshold) at = rank++;
            if (bin == threshold && tie++ < ties_taken) at = needed - ties_taken + tie - 1;
            if (at >= 0) *place_of(r, s, victims, at) = seats.slot[i];
            if (!reload) {
                if (at < 0) gone[i] = NONE;
            } else if (at >= 0 && bin > 0) {
                int position = a.position_at[seats.slot[i]];
                if (position >= 0) r.where[position] = NONE, ++evicted;
            }
        }
    }
    return evicted;
}
