package snapshot_test

import (
	"bytes"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/snapshot"
	"github.com/countersign/countersign/pkg/testkit/check"
	"github.com/countersign/countersign/pkg/testkit/storetest"
)

// million is the number of tokens in the benchmarks.
const million = 1_000_000

// BenchmarkStart measures the time from a validator's file to its first decision. Run it with -cpu 1.
func BenchmarkStart(b *testing.B) {
	for _, perApp := range []int{1, 10, 100} {
		b.Run(fmt.Sprintf("%d-an-app", perApp), func(b *testing.B) {
			ring, meta := fixedRing(b), record.Meta{StoreID: "s", Partitions: record.DefaultPartitions, CreateTime: time.Now()}
			var file bytes.Buffer
			writeReplica(b, &file, ring, meta, filled(b, ring, meta, million/perApp, perApp))
			b.SetBytes(int64(file.Len()))
			for b.Loop() {
				r := newReplica(storetest.NewWith(b, ring, meta))
				if err := check.Must(snapshot.NewReader(bytes.NewReader(file.Bytes()), ring))(b).Replicas(r.Import); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(file.Len())/million, "bytes/token")
		})
	}
}

// BenchmarkWrite measures writing one file with 10 tokens per app.
func BenchmarkWrite(b *testing.B) {
	ring, meta := fixedRing(b), record.Meta{StoreID: "s", Partitions: record.DefaultPartitions, CreateTime: time.Now()}
	all := filled(b, ring, meta, million/10, 10)
	for b.Loop() {
		writeReplica(b, io.Discard, ring, meta, all)
	}
}
