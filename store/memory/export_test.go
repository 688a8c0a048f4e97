package memory

// HoldMost is how many steps one hold of the lock may have.
const HoldMost = maxHoldSteps

// LongestHold returns the longest hold of the lock so far, in steps.
func (l *Log) LongestHold() int64 { return l.longestHold.Load() }
