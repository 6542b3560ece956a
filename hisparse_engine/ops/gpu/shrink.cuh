// Cuts one request's buffer short: keeps its hottest rows, exactly, by a radix selection over the last uses.
#pragma once

#include "device.cuh"

struct ShrinkArgs {
    const long long* start;
    int *where, *position_at, *last_use;  // [groups, ...]
    const int *buffer, *buffer_size;
    int *source, *target, *count;  // [groups, capacity], [groups]
    long long table_tokens, device_tokens;
    int row, kept, max_buffer, capacity;
};

struct ShrinkShared {
    int digits[256], warp_sums[WARP];
    int prefix, left;
};

// The last use of the `wanted`-th hottest seat (from 1), and how many seats of exactly that age are among the hottest.
__device__ __forceinline__ void find_coldest_kept(const int* buffer, const int* last_use, int size, int wanted,
                                                  ShrinkShared& s) {
    if (threadIdx.x == 0) s.prefix = 0, s.left = wanted;
    for (int shift = 24; shift >= 0; shift -= 8) {
        for (int i = threadIdx.x; i < 256; i += blockDim.x) s.digits[i] = 0;
        __syncthreads();
        for (int seat = threadIdx.x; seat < size; seat += blockDim.x) {
            int age = last_use[buffer[seat]];
            bool alike = shift == 24 || (age >> (shift + 8)) == s.prefix;
            if (alike) atomicAdd(&s.digits[(age >> shift) & 255], 1);
        }
        __syncthreads();
        if (threadIdx.x == 0) {
            int digit = 255;
            while (digit > 0 && s.digits[digit] < s.left) s.left -= s.digits[digit--];
            s.prefix = (s.prefix << 8) | digit;
        }
        __syncthreads();
    }
}

// Appends `slot` to `list`, as far as that goes, for every thread with `listed`; returns the list's new length. There may
// be more targets than capacity, but not more that are used.
__device__ __forceinline__ int append(int* list, int capacity, int length, bool listed, int slot, ShrinkShared& s) {
    int before = publish_sum(listed, s.warp_sums);
    __syncthreads();
    Sums sums = collect_sum(before, s.warp_sums);
    if (listed && length + sums.before < capacity) list[length + sums.before] = slot;
    __syncthreads();
    return length + sums.total;
}

// A block for each group. `buffer_size` is cut by shrink_size, when every block has read it.
__global__ void __launch_bounds__(1024) shrink_buffer(KERNEL_ARGS ShrinkArgs a) {
    __shared__ ShrinkShared s;
    wait_for_predecessors();
    const int size = a.buffer_size[a.row], kept = a.kept < size ? a.kept : size;
    const int* buffer = a.buffer + static_cast<long long>(a.row) * a.max_buffer;
    int* where = a.where + blockIdx.x * a.table_tokens + a.start[a.row];
    int* position_at = a.position_at + blockIdx.x * a.device_tokens;
    int* last_use = a.last_use + blockIdx.x * a.device_tokens;
    int* source = a.source + static_cast<long long>(blockIdx.x) * a.capacity;
    int* target = a.target + static_cast<long long>(blockIdx.x) * a.capacity;
    find_coldest_kept(buffer, last_use, size, kept, s);
    const int coldest = s.prefix, ties = s.left;

    // Ties are kept where they are first: seats below `kept`, then the others, in buffer order.
    int num_source = 0, num_target = 0, seen = 0;
    for (int first = 0; first < size; first += blockDim.x) {
        int seat = first + threadIdx.x, slot = seat < size ? buffer[seat] : NONE;
        int used = slot < 0 ? 0 : last_use[slot];
        bool tie = slot >= 0 && used == coldest && kept > 0;
        int before = publish_sum(tie, s.warp_sums);
        __syncthreads();
        Sums sums = collect_sum(before, s.warp_sums);
        __syncthreads();
        bool hot = used > 0 && kept > 0 && (used > coldest || (tie && seen + sums.before < ties));
        seen += sums.total;
        num_target = append(target, a.capacity, num_target, slot >= 0 && seat < kept && !hot, slot, s);
        num_source = append(source, a.capacity, num_source, hot && seat >= kept, slot, s);
        if (slot >= 0 && !hot && position_at[slot] >= 0) {
            where[position_at[slot]] = NONE;
            position_at[slot] = NONE, last_use[slot] = 0;
        }
    }
    __syncthreads();
    for (int i = threadIdx.x; i < num_source; i += blockDim.x) {
        int from = source[i], to = target[i], position = position_at[from];
        where[position] = to;
        position_at[to] = position, last_use[to] = last_use[from];
        position_at[from] = NONE, last_use[from] = 0;
    }
    if (threadIdx.x == 0) a.count[blockIdx.x] = num_source;
}

struct SizeArgs {
    int *buffer_size, kept;
};

__global__ void __launch_bounds__(1024) shrink_size(KERNEL_ARGS SizeArgs a) {
    wait_for_predecessors();
    if (threadIdx.x == 0 && *a.buffer_size > a.kept) *a.buffer_size = a.kept;
}
