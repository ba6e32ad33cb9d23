import ArgumentParser
import Foundation
import Keel

/// What the commands that make one saved model out of another have in common.
struct ChangeOptions: ParsableArguments {
  @Argument(help: ArgumentHelp("A file that `keel train` saved.", valueName: "model"))
  var path: String

  @Option(
    help: ArgumentHelp(
      "Where the new model is saved.",
      discussion: "Default: a name of its own beside the model. Name the model itself to replace it.",
      valueName: "file"))
  var out: String?

  @OptionGroup var dataOptions: DataOptions
  @OptionGroup var deviceOptions: DeviceOptions

  @Flag(help: "Print one JSON object on standard output, everything else on standard error.")
  var json = false

  func validate() throws {
    if dataOptions.data != nil { _ = try dataOptions.choice() }
  }

  /// `digits.safetensors` becomes `digits-folded.safetensors`.
  func output(_ suffix: String) -> String {
    if let out { return out }
    let url = URL(fileURLWithPath: path)
    let name = "\(url.deletingPathExtension().lastPathComponent)-\(suffix)"
    let folder = path.contains("/") ? url.deletingLastPathComponent().path + "/" : ""
    return folder + name + (url.pathExtension.isEmpty ? "" : ".\(url.pathExtension)")
  }
}

/// Evaluation on the test images of the old model and of the new one.
struct Comparison: Encodable {
  struct Figures: Encodable {
    var testLoss: Figure
    var testAccuracy: Figure

    init(_ evaluation: Evaluation) {
      (testLoss, testAccuracy) = (Figure(evaluation.loss), Figure(evaluation.accuracy))
    }
  }

  var count: Int
  var before: Figures
  var after: Figures

  init(before: Evaluation, after: Evaluation) {
    count = before.count
    self.before = Figures(before)
    self.after = Figures(after)
  }

  var rows: [[String]] {
    [
      ["", "before", "after"],
      ["test loss", Text.loss(before.testLoss.value), Text.loss(after.testLoss.value)],
      ["test accuracy", Text.accuracy(before.testAccuracy.value), Text.accuracy(after.testAccuracy.value)],
    ]
  }

  var table: String { TextTable([.left, .right, .right], rows: rows).text }
}
