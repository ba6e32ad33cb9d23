import ArgumentParser
import Foundation
import Keel

/// `keel`, the command-line tool.
@main
struct KeelCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "keel",
    abstract: "Trains neural networks on any OpenCL device.",
    discussion: """
      `keel train` needs nothing else: it trains a batch-norm network on the embedded handwritten digits and saves it.

      The device is a GPU if there is one, else a CPU. `--device` or the environment variable KEEL_DEVICE picks another, \
      by a part of its name or by the indices that `keel devices` lists.
      """,
    version: "keel \(keelVersion)",
    subcommands: [
      DevicesCommand.self, TrainCommand.self, EvaluateCommand.self, PredictCommand.self, BenchCommand.self,
      RecalibrateCommand.self, FoldCommand.self, CheckCommand.self, TuneCommand.self,
    ])

  static func main() async {
    // A reader that goes away (`keel train | head -1`) is an error of a write, which the console looks at, not a signal.
    signal(SIGPIPE, SIG_IGN)
    do {
      var command = try await asyncParseAsRoot()
      if var command = command as? any AsyncParsableCommand {
        try await command.run()
      } else {
        try command.run()
      }
    } catch {
      let report = ErrorReport(error)
      if !report.text.isEmpty { report.isError ? Console.printError(report.text) : Console.print(report.text) }
      exit(withError: ExitCode(report.code))
    }
  }
}

/// What an error has the tool print, and the code it exits with.
struct ErrorReport: Equatable {
  var text: String
  /// False for a request for help or the version.
  var isError: Bool
  var code: Int32

  init(_ error: any Error) {
    let code = KeelCommand.exitCode(for: error)
    self.code = code.rawValue
    isError = code != .success
    if code == .success || code == .validationFailure {
      text = KeelCommand.fullMessage(for: error)
      if isError { text = Self.shorten(text) }
    } else if error is ExitCode {
      text = ""
    } else {
      text = "error: " + Self.describe(error)
    }
  }

  /// The parser's message without the usage line, which is long and hides the error; where to find it stays.
  private static func shorten(_ text: String) -> String {
    let lines = text.split(separator: "\n", omittingEmptySubsequences: false).filter { !$0.hasPrefix("Usage: ") }
    let message = lines.joined(separator: "\n")
    return message.hasPrefix("Error: ") ? "error: " + message.dropFirst("Error: ".count) : message
  }

  /// Keel's errors describe themselves; of Foundation's, the description is of use to no reader.
  private static func describe(_ error: any Error) -> String {
    type(of: error) == NSError.self || error is CocoaError ? error.localizedDescription : String(describing: error)
  }
}

/// A command that cannot do what it was asked: `[train] what was expected, what came`.
struct CommandError: Error, Equatable, CustomStringConvertible {
  let description: String

  init(_ operation: String, _ message: String) { description = "[\(operation)] \(message)" }
}
