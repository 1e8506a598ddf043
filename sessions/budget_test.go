package sessions

import (
	"bytes"
	"testing"
)

// fill writes n bytes in pieces as they come from a pipe.
func fill(j *journal, n int) {
	for ; n > 0; n -= readSize {
		j.write(Stdout, 1, make([]byte, min(n, readSize)))
	}
}

func TestBudgetBoundsAllJournals(t *testing.T) {
	t.Parallel()
	b := &budget{limit: 8 << 20}
	var all []*journal
	for range 8 {
		all = append(all, newJournal(4<<20, b))
	}
	fill(all[0], 16<<20)
	if kept := all[0].keptLocked(); kept < 3<<20 {
		t.Errorf("alone it keeps %d bytes, though there is room", kept)
	}
	for _, j := range all[1:] {
		fill(j, 16<<20)
	}
	for _, j := range all {
		j.trim()
	}
	sum := int64(0)
	for i, j := range all {
		if kept := j.keptLocked(); kept < MinRetention-readSize-entryCost {
			t.Errorf("journal %d keeps %d bytes, less than its share", i, kept)
		}
		sum += j.keptLocked()
	}
	if used := b.used.Load(); used != sum || used > b.limit+8*(readSize+entryCost) {
		t.Errorf("%d bytes are counted, %d are kept, %d are allowed", used, sum, b.limit)
	}
	for _, j := range all {
		j.leaveBudget()
		j.leaveBudget()
	}
	if b.used.Load() != 0 || b.journals.Load() != 0 {
		t.Errorf("%d bytes of %d journals are left", b.used.Load(), b.journals.Load())
	}
}

// What a lossless reader has not read is spared, and nothing is added to it.
func TestBudgetSparesWhatIsNotRead(t *testing.T) {
	t.Parallel()
	b := &budget{limit: 2 << 20}
	j := newJournal(8<<20, b)
	r, err := j.attach(AttachOptions{}, func(_, end uint64) (uint64, error) { return end, nil })
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var want []byte
	for i := range 40 {
		p := bytes.Repeat([]byte{byte(i)}, readSize)
		want = append(want, p...)
		j.write(Stdout, 1, p)
	}
	other := newJournal(8<<20, b)
	fill(other, 4<<20)
	j.trim()
	if j.room() == nil {
		t.Error("more is taken, though the budget is used up and a reader is behind")
	}
	var got []byte
	for len(got) < len(want) {
		entries, err := r.Next(nil, 1<<20)
		if err != nil || len(entries) == 0 {
			t.Fatalf("%d of %d bytes: %v", len(got), len(want), err)
		}
		for _, e := range entries {
			if e.Kind == Gap {
				t.Fatalf("gap at %d", e.Pos)
			}
			got = append(got, e.Data...)
		}
	}
	if !bytes.Equal(got, want) {
		t.Error("other bytes were read than were written")
	}
	j.trim()
	if kept := j.keptLocked(); kept > 1<<20+readSize+entryCost {
		t.Errorf("read, and %d bytes are kept still", kept)
	}
}
