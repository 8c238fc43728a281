package importer

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/countersign/countersign/pkg/apierr"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/countersign/internal/client"
	"github.com/countersign/countersign/services/countersign/internal/importfile"
)

// The waits between the attempts of one call. Together they outlast a restart of the authority.
const (
	firstWait = 250 * time.Millisecond
	lastWait  = 8 * time.Second
)

// send imports a batch. Its request id follows from the rows. So an attempt that is repeated is not carried
// out twice, and neither is the same call of an earlier run that was killed (AIP-155).
func (r *run) send(ctx context.Context, batch []importfile.Row) (*countersignv1.ImportTokensResponse, error) {
	request := &countersignv1.ImportTokensRequest{AppId: batch[0].AppID, RequestId: requestID(r.options.RequestID, batch)}
	for _, row := range batch {
		request.Imports = append(request.Imports, row.Import)
	}
	attempt := func(ctx context.Context) (*countersignv1.ImportTokensResponse, error) {
		return r.authority.ImportTokens(ctx, request)
	}
	response, err := retried(ctx, attempt)
	if status.Code(err) == codes.InvalidArgument && strings.HasPrefix(status.Convert(err).Message(), "request_id: ") {
		// Another file with the same lines, names and scopes, and with other secrets.
		request.RequestId = rand.Text()
		return retried(ctx, attempt)
	}
	return response, err
}

// requestID returns the request id of a batch. It does not depend on secrets: the audit trail shows it.
func requestID(prefix string, batch []importfile.Row) string {
	h := sha256.New()
	fmt.Fprintf(h, "%q", prefix)
	for _, row := range batch {
		fmt.Fprintf(h, "%d %q %v", row.Line, row.Import.GetName(), row.Import.GetScopes())
	}
	return fmt.Sprintf("import-%x", h.Sum(nil)[:20])
}

// retried makes a call, again and with growing waits while the authority is in passing trouble. An
// interruption ends the waits and not a call: the outcome of a call in flight must become known.
func retried[R any](ctx context.Context, call func(context.Context) (R, error)) (R, error) {
	for wait := firstWait; ; wait *= 2 {
		response, err := call(context.WithoutCancel(ctx))
		if err == nil || !passing(err) || wait > lastWait {
			return response, err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return response, err
		}
	}
}

// passing reports whether the same call may succeed soon.
func passing(err error) bool {
	if unreachable := (*client.UnreachableError)(nil); errors.As(err, &unreachable) {
		return true
	}
	switch status.Code(err) {
	case codes.Unavailable:
		return apierr.ReasonOf(err) != apierr.PolicyUnverified
	case codes.ResourceExhausted:
		return apierr.ReasonOf(err) == apierr.Overloaded
	case codes.DeadlineExceeded:
		return true
	}
	return false
}

// aboutApp reports whether an error is about one app, so that the others can go on.
func aboutApp(err error) bool {
	switch status.Code(err) {
	case codes.InvalidArgument, codes.AlreadyExists, codes.PermissionDenied, codes.FailedPrecondition, codes.NotFound,
		codes.Aborted:
		return true
	case codes.ResourceExhausted:
		return full(err)
	case codes.Unavailable:
		return apierr.ReasonOf(err) == apierr.PolicyUnverified
	}
	return false
}

// full reports whether the app can have no more tokens.
func full(err error) bool {
	reason := apierr.ReasonOf(err)
	return reason == "TOO_MANY_TOKENS" || reason == "TOO_MANY_DIGESTS"
}

func secretTaken(err error) bool { return apierr.ReasonOf(err) == "SECRET_TAKEN" }

// aboutField matches the field at the start of an error of the authority, as in "imports[7].name: ...".
var aboutField = regexp.MustCompile(`^(?:imports\[(\d+)\]\.?)?([a-z][a-z0-9_]*)?: `)

// refusedRow returns which row of a batch an error is about, and why; -1 when it is about the whole call.
func refusedRow(err error, batch []importfile.Row) (int, importfile.Refusal) {
	text := status.Convert(err).Message()
	at := aboutField.FindStringSubmatch(text)
	if at == nil {
		return -1, importfile.Refusal{Field: "app_id", Reason: text}
	}
	index, err2 := strconv.Atoi(at[1])
	if err2 != nil || index >= len(batch) {
		return -1, importfile.Refusal{Field: at[2], Reason: text[len(at[0]):]}
	}
	refusal := importfile.Refusal{Field: at[2], Reason: text[len(at[0]):]}
	switch {
	case apierr.ReasonOf(err) == "NAME_TAKEN": // without the name, which is a secret when columns are mixed up
		refusal.Reason = "an active or disabled token of the app has this name"
	case refusal.Field == "secret" && batch[index].Import.GetSha256() != nil:
		refusal.Field = "sha256"
	}
	return index, refusal
}
