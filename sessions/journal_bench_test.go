package sessions

import "testing"

// BenchmarkJournalWrite is output that nobody reads, which retention soon drops as fast as
// it comes.
func BenchmarkJournalWrite(b *testing.B) { benchmarkJournal(b, nil) }

// BenchmarkJournalFollow is output with one lossless reader, which catches up after every
// write.
func BenchmarkJournalFollow(b *testing.B) { benchmarkJournal(b, []bool{true}) }

// BenchmarkJournalFanOut is output with 50 viewers, which catch up after every write.
func BenchmarkJournalFanOut(b *testing.B) { benchmarkJournal(b, make([]bool, 50)) }

// benchmarkJournal writes pieces that are joined, and whole buffers, which are kept; and has
// each of the readers, lossless or not, take them. All is done in turn: the cost of waking
// goroutines, which is another matter, would hide that of the journal.
func benchmarkJournal(b *testing.B, readers []bool) {
	for _, bm := range []struct {
		name string
		size int
	}{{"64B", 64}, {"64KiB", readSize}} {
		b.Run(bm.name, func(b *testing.B) {
			j := newJournal(DefaultRetention, nil)
			following := make([]*Reader, len(readers))
			for i, lossless := range readers {
				following[i] = mustAttach(b, j, lossless, 0)
			}
			buf := make([]byte, bm.size) // one for all: the journal never looks into it
			var entries []Entry
			b.SetBytes(int64(bm.size))
			b.ReportAllocs()
			for b.Loop() {
				if j.room() != nil {
					b.Fatal("the writer is held back by readers that have caught up")
				}
				j.write(Stdout, 1, buf)
				for _, r := range following {
					entries = catchUp(b, r, entries)
				}
			}
		})
	}
}

// catchUp takes all there is the way a door does, and returns the room for entries.
func catchUp(b *testing.B, r *Reader, entries []Entry) []Entry {
	<-r.Ready()
	for {
		var err error
		if entries, err = r.Next(entries[:0], readSize); err != nil {
			b.Fatal(err)
		}
		if len(entries) == 0 {
			return entries
		}
		r.Took(entries[len(entries)-1].End())
	}
}
