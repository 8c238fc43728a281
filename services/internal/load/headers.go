package load

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"golang.org/x/net/http2/hpack"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// headers decodes the headers and trailers of answers, and keeps the fields with which gRPC describes errors.
type headers struct {
	decoder                       *hpack.Decoder
	http, grpc, words, detailsBin string
}

func newHeaders() *headers {
	h := &headers{}
	h.decoder = hpack.NewDecoder(4096, func(field hpack.HeaderField) {
		switch field.Name {
		case ":status":
			h.http = field.Value
		case "grpc-status":
			h.grpc = field.Value
		case "grpc-message":
			h.words = field.Value
		case "grpc-status-details-bin":
			h.detailsBin = field.Value
		}
	})
	return h
}

// decode decodes one block of headers or trailers.
func (h *headers) decode(block []byte) error {
	h.http, h.grpc, h.words, h.detailsBin = "", "", "", ""
	if _, err := h.decoder.Write(block); err != nil {
		return err
	}
	return h.decoder.Close()
}

// err returns the error in the trailers that were decoded last; nil for OK.
func (h *headers) err() error {
	if h.grpc == "0" {
		return nil
	}
	code, err := strconv.ParseUint(h.grpc, 10, 32)
	if err != nil {
		return status.Error(codes.Unavailable, fmt.Sprintf("no gRPC status; HTTP status %q", h.http))
	}
	if raw, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(h.detailsBin, "=")); err == nil && len(raw) > 0 {
		var told statuspb.Status
		if proto.Unmarshal(raw, &told) == nil && uint64(told.GetCode()) == code {
			return status.ErrorProto(&told)
		}
	}
	words, err := url.PathUnescape(h.words)
	if err != nil {
		words = h.words
	}
	return status.Error(codes.Code(code), words)
}
