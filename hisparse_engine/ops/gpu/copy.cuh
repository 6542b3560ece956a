// Fetches rows from the host as a plan lists them, and writes new rows to their seats.
#pragma once

#include "device.cuh"

struct CopyArgs {
    const int *copy_from, *copy_to, *num_copies, *newest;
    const uint4 *host_rows, *new_rows;
    uint4 *device_rows, *staged;  // staged: or null
    int batch, capacity, units;   // capacity of the lists; units: 16-byte units of a row
    unsigned long long inverse;   // ceil(2^40 / units): a division by units in one multiplication
};

__device__ __forceinline__ int row_of(unsigned unit, const CopyArgs& a) {
    return static_cast<int>((static_cast<unsigned long long>(unit) * a.inverse) >> 40);
}

// The step's new rows, by the last warps of the grid: the first ones have rows to fetch.
__device__ __forceinline__ void write_new_rows(const CopyArgs& a) {
    int threads = gridDim.x * blockDim.x;
    int thread = threads - 1 - (warp_id() * gridDim.x + blockIdx.x) * WARP - lane_id();
    for (int unit = thread; unit < a.batch * a.units; unit += threads) {
        int row = row_of(unit, a), slot = a.newest[row];
        uint4 value = a.new_rows[unit];
        if (slot >= 0) a.device_rows[static_cast<long long>(slot) * a.units + (unit - row * a.units)] = value;
        if (a.staged) a.staged[unit] = value;
    }
}

// U units in flight for each thread: units first + i * stride, below end. Where the rows come from and go to is read
// whether or not there are so many, so that it arrives together with their number.
template <int U>
__device__ __forceinline__ void copy_units(const CopyArgs& a, unsigned first, unsigned stride, unsigned end) {
    uint4 value[U];
    int from[U], to[U], column[U];
#pragma unroll
    for (int i = 0; i < U; ++i) {
        unsigned unit = first + i * stride;
        int row = row_of(unit, a);
        column[i] = unit - row * a.units;
        from[i] = row < a.capacity ? a.copy_from[row] : NONE;
        to[i] = row < a.capacity ? a.copy_to[row] : NONE;
    }
#pragma unroll
    for (int i = 0; i < U; ++i) {
        if (first + i * stride >= end) to[i] = NONE;
        if (to[i] < 0) continue;
        value[i] = load_once(a.host_rows + static_cast<long long>(from[i]) * a.units + column[i]);
    }
#pragma unroll
    for (int i = 0; i < U; ++i) {
        if (to[i] >= 0) a.device_rows[static_cast<long long>(to[i]) * a.units + column[i]] = value[i];
    }
}

// Spread: neighbouring warps' worth of units go to different blocks, so that few rows are fetched by the whole GPU.
template <int U>
__global__ void __launch_bounds__(1024) copy_spread(KERNEL_ARGS CopyArgs a) {
    wait_for_predecessors();
    allow_successors();
    unsigned end = static_cast<unsigned>(a.num_copies[0]) * a.units;
    write_new_rows(a);
    unsigned warp = warp_id() * gridDim.x + blockIdx.x, warps = gridDim.x * num_warps();
    unsigned first = warp * WARP;
    do {
        copy_units<U>(a, first + lane_id(), warps * WARP, end);
        first += U * warps * WARP;
    } while (first < end);
}

// Affine: each block fetches one stretch of the list, rows of one request or of few, so that it stays in few host pages.
template <int U>
__global__ void __launch_bounds__(1024) copy_affine(KERNEL_ARGS CopyArgs a) {
    wait_for_predecessors();
    allow_successors();
    long long rows = a.num_copies[0];
    write_new_rows(a);
    unsigned begin = static_cast<unsigned>(rows * blockIdx.x / gridDim.x) * a.units;
    unsigned end = static_cast<unsigned>(rows * (blockIdx.x + 1) / gridDim.x) * a.units;
    for (unsigned first = begin + warp_id() * U * WARP; first < end; first += U * blockDim.x) {
        copy_units<U>(a, first + lane_id(), WARP, end);
    }
}

// One row by a warp, its loads cut where the host's memory lines are, so that each line is fetched by one request; U loads
// cover the row.
template <int U>
__device__ __forceinline__ void copy_row(const CopyArgs& a, int from, int to) {
    constexpr int LINE = 8;  // units
    const uint4* source = a.host_rows + static_cast<long long>(from) * a.units;
    uint4* target = a.device_rows + static_cast<long long>(to) * a.units;
    int first = lane_id() - static_cast<int>(reinterpret_cast<size_t>(source) / sizeof(uint4) % LINE);
    uint4 value[U];
#pragma unroll
    for (int i = 0; i < U; ++i) {
        int unit = i * WARP + first;
        if (unit >= 0 && unit < a.units) value[i] = load_once(source + unit);
    }
#pragma unroll
    for (int i = 0; i < U; ++i) {
        int unit = i * WARP + first;
        if (unit >= 0 && unit < a.units) target[unit] = value[i];
    }
}

// Lines: a warp for each row, neighbouring rows in different blocks.
template <int U>
__global__ void __launch_bounds__(1024) copy_lines(KERNEL_ARGS CopyArgs a) {
    wait_for_predecessors();
    allow_successors();
    int rows = a.num_copies[0];
    write_new_rows(a);
    for (int row = warp_id() * gridDim.x + blockIdx.x; row < a.capacity; row += gridDim.x * num_warps()) {
        int from = a.copy_from[row], to = a.copy_to[row];
        if (row >= rows) break;
        if (to >= 0) copy_row<U>(a, from, to);
    }
}

constexpr int FEW = 768;     // rows, for which order is not worth its while
constexpr int QUEUE = 2048;  // rows
constexpr int STRETCH = 12;  // log2 of the neighbouring host rows that one block fetches

// Puts `queue`, a power of two long, in ascending order of the upper halves.
__device__ __forceinline__ void sort_queue(unsigned long long* queue, int length) {
    for (int run = 2; run <= length; run *= 2) {
        for (int gap = run / 2; gap > 0; gap /= 2) {
            for (int i = threadIdx.x; i < length / 2; i += blockDim.x) {
                int low = 2 * i - (i & (gap - 1)), high = low + gap;
                bool descends = low & run;
                unsigned long long one = queue[low], other = queue[high];
                if ((one > other) != descends) queue[low] = other, queue[high] = one;
            }
            __syncthreads();
        }
    }
}

// Ranges: each block fetches the rows of its own stretches of host memory, in ascending order, whatever their order in the
// list, so that few of the host's pages are in use at any time. The number of blocks is a power of two.
template <int U>
__global__ void __launch_bounds__(1024) copy_ranges(KERNEL_ARGS CopyArgs a) {
    __shared__ unsigned long long queue[QUEUE];
    __shared__ int queued;
    constexpr int EACH = 16;
    if (threadIdx.x == 0) queued = 0;
    wait_for_predecessors();
    allow_successors();
    const int rows = a.num_copies[0], tile = EACH * blockDim.x;
    write_new_rows(a);
    if (rows <= FEW) {
        for (int row = warp_id() * gridDim.x + blockIdx.x; row < rows; row += gridDim.x * num_warps()) {
            int to = a.copy_to[row];
            if (to >= 0) copy_row<U>(a, a.copy_from[row], to);
        }
        return;
    }
    __syncthreads();
    for (int first = 0; first < rows; first += tile) {
        int from[EACH];
#pragma unroll
        for (int i = 0; i < EACH; ++i) {
            int row = first + i * blockDim.x + threadIdx.x;
            from[i] = row < rows ? a.copy_from[row] : NONE;
        }
#pragma unroll
        for (int i = 0; i < EACH; ++i) {
            int row = first + i * blockDim.x + threadIdx.x;
            bool mine = from[i] >= 0 && ((from[i] >> STRETCH) & (gridDim.x - 1)) == blockIdx.x;
            if (!mine) continue;
            int at = atomicAdd(&queued, 1), to = a.copy_to[row];
            if (at < QUEUE) {
                queue[at] = static_cast<unsigned long long>(from[i]) << 32 | static_cast<unsigned>(to);
            } else if (to >= 0) {  // all at once from one stretch: too bad
                for (int unit = 0; unit < a.units; ++unit) {
                    a.device_rows[static_cast<long long>(to) * a.units + unit] =
                        a.host_rows[static_cast<long long>(from[i]) * a.units + unit];
                }
            }
        }
        __syncthreads();
        int length = queued < QUEUE ? queued : QUEUE, sorted = 1;
        __syncthreads();  // all have read it
        if (first + tile < rows && length < QUEUE / 2) continue;
        while (sorted < length) sorted *= 2;
        for (int i = length + threadIdx.x; i < sorted; i += blockDim.x) queue[i] = ~0ull;
        __syncthreads();
        sort_queue(queue, sorted);
        for (int i = warp_id(); i < length; i += num_warps()) {
            int to = static_cast<int>(queue[i]);
            if (to >= 0) copy_row<U>(a, static_cast<int>(queue[i] >> 32), to);
        }
        __syncthreads();
        if (threadIdx.x == 0) queued = 0;
        __syncthreads();
    }
}
