package cli

import (
	"testing"

	"github.com/countersign/countersign/services/internal/cmdline/cmdlinetest"
)

func TestExamples(t *testing.T) { cmdlinetest.Examples(t, newRoot) }

func TestHelpFits(t *testing.T) { cmdlinetest.HelpFits(t, newRoot()) }
