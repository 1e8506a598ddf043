package main

import (
	"math"
	"slices"
)

// A series is what was measured of one target, round by round.
type series struct{ rounds [][]float64 }

func (s *series) add(values []float64) { s.rounds = append(s.rounds, values) }

// A summary describes a series. Medians are those of each round.
type summary struct {
	Samples int       `json:"samples"`
	Min     float64   `json:"min"`
	Mean    float64   `json:"mean"`
	P50     float64   `json:"p50"`
	P90     float64   `json:"p90"`
	P99     float64   `json:"p99"`
	Max     float64   `json:"max"`
	Medians []float64 `json:"medians"`
}

// summary is nil if nothing was measured.
func (s *series) summary() *summary {
	var all, medians []float64
	for _, r := range s.rounds {
		all = append(all, r...)
		medians = append(medians, percentile(slices.Sorted(slices.Values(r)), 50))
	}
	if len(all) == 0 {
		return nil
	}
	slices.Sort(all)
	sum := 0.0
	for _, v := range all {
		sum += v
	}
	return &summary{
		Samples: len(all), Min: all[0], Mean: sum / float64(len(all)), P50: percentile(all, 50), P90: percentile(all, 90),
		P99: percentile(all, 99), Max: all[len(all)-1], Medians: medians,
	}
}

// percentile is the value that p percent of the sorted values do not exceed; the 50th is
// the median, between two values where their number is even.
func percentile(sorted []float64, p float64) float64 {
	n := len(sorted)
	if n == 0 {
		return math.NaN()
	}
	if p == 50 && n%2 == 0 {
		return (sorted[n/2-1] + sorted[n/2]) / 2
	}
	return sorted[max(0, int(math.Ceil(p/100*float64(n)))-1)]
}
