package sessions

import "sync/atomic"

// A budget bounds the memory of all journals together. While it is not used up each may
// grow to its retention; once it is, each is cut back to an even share of it when it is next
// written to, or by the manager when it is not. nil is no budget.
type budget struct {
	limit    int64
	used     atomic.Int64
	journals atomic.Int64
}

// allowance is how much a journal may keep now, given its retention.
func (b *budget) allowance(retention int) int {
	if b == nil || b.used.Load() <= b.limit {
		return retention
	}
	share := int(b.limit / max(b.journals.Load(), 1))
	return min(retention, max(share, MinRetention))
}

// room is for how many journals the budget is enough.
func (b *budget) room() int { return int(b.limit / MinRetention) }
