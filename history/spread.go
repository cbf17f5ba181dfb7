package history

import (
	"math"
	"math/bits"
	"time"
)

// spread counts durations by size. A class is a quarter of the way from one power of two
// to the next, so its middle is at most an eighth off. Classes reach from a microsecond
// to two weeks; what is longer is counted in the last one.
type spread struct {
	classes [classes]uint32
	count   uint64
}

const (
	quarters = 4
	classes  = quarters * 40
)

// classOf finds the highest bit of a number of microseconds, and the two bits after it.
func classOf(d time.Duration) int {
	micros := uint64(max(1, d.Microseconds())) //nolint:gosec // it is not negative
	high := bits.Len64(micros) - 1
	return min(classes-1, quarters*high+int(micros<<2>>high)-quarters)
}

// middle returns the duration for which a class stands.
func middle(class int) time.Duration {
	high, quarter := class/quarters, class%quarters
	begin := math.Ldexp(1+float64(quarter)/quarters, high)
	return time.Duration((begin + math.Ldexp(0.5/quarters, high)) * float64(time.Microsecond))
}

func (s *spread) add(d time.Duration) {
	class := &s.classes[classOf(d)]
	if *class < math.MaxUint32 {
		*class++
		s.count++
	}
}

func (s *spread) merge(other *spread) {
	for class, n := range other.classes {
		n = min(n, math.MaxUint32-s.classes[class])
		s.classes[class] += n
		s.count += uint64(n)
	}
}

func (s *spread) times() Times {
	return Times{s.quantile(0.5), s.quantile(0.95), s.quantile(0.99)}
}

// quantile returns the duration that this share of all did not exceed; 0 if there is none.
func (s *spread) quantile(share float64) time.Duration {
	if s.count == 0 {
		return 0
	}
	rank := max(1, uint64(math.Ceil(share*float64(s.count))))
	seen := uint64(0)
	for class, n := range s.classes {
		if seen += uint64(n); seen >= rank {
			return middle(class)
		}
	}
	return middle(classes - 1)
}
