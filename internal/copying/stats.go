package copying

import (
	"errors"
	"time"

	"async-download/internal/metric"
	"async-download/internal/origin"
	"async-download/internal/transfer"
)

// runStats describes a run when it ends.
type runStats struct {
	began     time.Time
	asked     time.Time     // when the download was asked for
	continued bool          // some of the file had been copied before, or the origin has led to it
	job       *transfer.Job // nil if there was nothing to do
}

// values returns the metrics of a run. whole is a copy that is complete, nil for
// one that isn't and for a segment.
func (s *runStats) values(whole *transfer.Result, err error) map[metric.Name]float64 {
	values := map[metric.Name]float64{}
	if s.job == nil {
		return values
	}
	seconds := time.Since(s.began).Seconds()
	stored := s.job.Stored()
	if stored > 0 && seconds > 0 {
		values[metric.MegabytesPerSecond] = float64(stored) / 1e6 / seconds
	}
	retries := 0
	if s.job.Resumed() > 0 {
		retries++
	}
	var later *origin.Later
	if errors.As(err, &later) {
		retries++
	}
	if whole != nil && err == nil {
		values[metric.Bytes], values[metric.CopySeconds] = float64(whole.Bytes), seconds
		if stored < whole.Bytes { // an earlier run did the rest
			values[metric.CopySeconds] = time.Since(s.asked).Seconds()
		} else {
			retries += whole.Retries
		}
	}
	if retries > 0 {
		values[metric.Retries] = float64(retries)
	}
	return values
}
