import ArgumentParser
import Foundation
import Keel

struct FoldCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "fold", abstract: "Folds a saved model's batch norms into its linear layers.",
    discussion: """
      The new model gives the same outputs with fewer layers; it is for use, not for further training. A batch norm that \
      can't be folded is an error that says why; with --partial it stays.

      Both models are compared on the test images of --data, by default those that the model was trained with.
      """)

  @OptionGroup var options: ChangeOptions

  @Flag(help: "Fold what can be folded and keep the rest.")
  var partial = false

  /// The line of `--json`.
  struct Report: Encodable {
    struct Layer: Encodable {
      var path: String
      var folded: Bool
      var into: String?
      var reason: String?

      init(_ entry: Folding.Entry) {
        (path, folded) = (entry.path, entry.isFolded)
        switch entry.outcome {
        case .intoPreceding(let linear), .intoFollowing(let linear): into = linear
        case .kept(let why): reason = why
        }
      }
    }
    var model: String
    var out: String
    var device: String
    var data: String
    var layers: [Layer]
    /// Largest distance of the outputs on the test images, relative to the largest output.
    var departure: Figure
    var evaluation: Comparison
  }

  func run() async throws {
    let console = Console(json: options.json)
    let out = options.output("folded")
    try OutputFile.check(out)
    let file = try ModelFile(options.path)
    let device = try options.deviceOptions.select()
    let choice = try options.dataOptions.choice(fallback: file.description.data)
    let test = try await options.dataOptions.load(choice, console).test
    try file.check(choice.title, sampleShape: test.featureShape, classCount: test.classCount)

    let folding = try file.saved.model.fold(partial ? .partial : .all, sample: file.description.sampleShape)
    guard let network = folding.model.configuration else {
      throw CommandError("fold", "expects a network that can be described, \(file.path) has none")
    }
    var description = file.description
    description.network = network

    console.progress { _ in "comparing on \(device.name) …" }
    let trainers = try [file.saved.model, folding.model].map { try file.trainer(of: $0, on: device) }
    let comparison = Comparison(before: try trainers[0].evaluate(test), after: try trainers[1].evaluate(test))
    let outputs = try trainers.map { try $0.predict(test.features, scale: test.scale).doubles }
    let departure = Self.departure(outputs[1], from: outputs[0])
    try SavedModel(folding.model, description).write(to: out)

    let rows = [
      ["model", file.title],
      ["device", device.name],
      ["data", "\(choice.title), \(Text.count(test.count)) test images"],
      ["outputs", "differ by \(String(format: "%.1e", departure)) of the largest"],
      ["saved", out],
    ]
    console.line(TextTable([.left, .left], rows: rows).text)
    console.line()
    for entry in folding.entries { console.line("\(entry)") }
    if folding.entries.isEmpty { console.line("no batch norm: the new model is the old one") }
    console.line()
    console.line(comparison.table)
    if options.json {
      try console.json(
        Report(
          model: file.path, out: out, device: device.name, data: choice.name,
          layers: folding.entries.map { Report.Layer($0) }, departure: Figure(departure), evaluation: comparison))
    }
  }

  private static func departure(_ outputs: [Double], from expected: [Double]) -> Double {
    let largest = expected.map { abs($0) }.max() ?? 0
    let distance = zip(outputs, expected).map { abs($0 - $1) }.max() ?? 0
    return largest > 0 ? distance / largest : distance
  }
}
