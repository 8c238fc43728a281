package management_test

import (
	"fmt"
	"math"
	"strings"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/countersign/countersign/pkg/secret"
	pb "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// badRatios and badWindows have values that no report on readiness may ask for.
var (
	badRatios  = []float64{-0.01, 1.01, math.NaN(), math.Inf(1), math.Inf(-1)}
	badWindows = map[string]*durationpb.Duration{
		"none at all": {}, "negative": {Seconds: -1}, "under a minute": {Seconds: 59}, "over 35 days": {Seconds: 35*86400 + 1},
		"not a duration": {Seconds: 100, Nanos: -1}, "longer than all": {Seconds: math.MaxInt64},
	}
)

// badReadiness has the bad requests of GetReadiness.
func badReadiness(f fixture) []bad {
	rows := append(common(&pb.GetReadinessRequest{AppId: f.on}),
		bad{"app never heard of", &pb.GetReadinessRequest{AppId: newApp()}, noApp})
	for name, window := range badWindows {
		rows = append(rows, bad{name, &pb.GetReadinessRequest{AppId: f.on, Window: window}, invalid("window")})
	}
	for _, ratio := range badRatios {
		rows = append(rows, bad{
			fmt.Sprintf("ratio %v", ratio), &pb.GetReadinessRequest{AppId: f.on, MaxRejectedRatio: &ratio},
			invalid("max_rejected_ratio"),
		})
	}
	return rows
}

// badReadinessLists has the bad requests of ListReadiness.
func badReadinessLists(fixture) []bad {
	rows := common(&pb.ListReadinessRequest{})
	for name, window := range badWindows {
		rows = append(rows, bad{name, &pb.ListReadinessRequest{Window: window}, invalid("window")})
	}
	return rows
}

// badSearches has the bad requests of FindToken.
func badSearches(f fixture) []bad {
	return []bad{
		{"no secret", &pb.FindTokenRequest{}, invalid("secret")},
		{"only space", &pb.FindTokenRequest{Secret: " \n\t "}, invalid("secret")},
		{"over-long", &pb.FindTokenRequest{Secret: strings.Repeat("s", 4097)}, invalid("secret")},
		{"with text around it", &pb.FindTokenRequest{Secret: "it is " + f.onSecret}, invalid("secret")},
		{"longest", &pb.FindTokenRequest{Secret: strings.Repeat("s", 4096)}, noSecret},
		{"nobody's", &pb.FindTokenRequest{Secret: secret.Mint().Reveal()}, noSecret},
		{"a part of one", &pb.FindTokenRequest{Secret: f.onSecret[:min(51, len(f.onSecret))]}, noSecret},
	}
}
