package queue

import (
	"slices"
	"sync"
	"testing"
)

func TestOrder(t *testing.T) {
	q := New[int]()
	q.Put(1)
	q.Put(2, 3)
	if !q.PutMax(4, 4) || q.PutMax(4, 5) {
		t.Error("the limit of 4 values is not kept")
	}
	<-q.Ready()
	select {
	case <-q.Ready():
		t.Error("one reader is woken twice for what it takes at once")
	default:
	}
	if got := q.Take(); !slices.Equal(got, []int{1, 2, 3, 4}) {
		t.Errorf("took %v", got)
	}
	if got := q.Take(); len(got) != 0 {
		t.Errorf("took %v from an empty queue", got)
	}
	if !q.PutMax(1, 6) {
		t.Error("an emptied queue is full")
	}
	<-q.Ready()
}

// TestManyWriters: nothing is lost, and the values of each writer stay in order.
func TestManyWriters(t *testing.T) {
	const writers, each = 8, 1000
	q := New[[2]int]()
	var writing sync.WaitGroup
	for w := range writers {
		writing.Go(func() {
			for i := range each {
				q.Put([2]int{w, i})
			}
		})
	}
	next := make([]int, writers)
	for n := 0; n < writers*each; {
		<-q.Ready()
		for _, v := range q.Take() {
			if v[1] != next[v[0]] {
				t.Fatalf("writer %d: value %d where %d was next", v[0], v[1], next[v[0]])
			}
			next[v[0]]++
			n++
		}
	}
	writing.Wait()
}
