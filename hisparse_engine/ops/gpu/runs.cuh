// Lists of ints, V neighbours to a thread: read and written at once where they are aligned, and whether they ascend.
#pragma once

#include "device.cuh"

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

// Whether this thread's positions and the next thread's first do not ascend strictly, NONE last. Where all threads' do,
// nothing is there twice.
template <int V>
__device__ __forceinline__ bool out_of_order(const int (&position)[V], int after_warp) {
    int next = __shfl_down_sync(ALL_LANES, position[0], 1);
    if (lane_id() == WARP - 1) next = after_warp;
    bool wrong = false;
#pragma unroll
    for (int v = 0; v < V; ++v) {  // as unsigned numbers, NONE is the greatest
        unsigned here = position[v], then = v + 1 < V ? position[v + 1] : next;
        wrong |= here >= then && then != static_cast<unsigned>(NONE);
    }
    return wrong;
}
