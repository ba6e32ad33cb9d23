import ArgumentParser
import Foundation
import Keel

struct EvaluateCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "evaluate", abstract: "Measures a saved model on test images.",
    discussion: "Without --data these are the test images of the data set that the model was trained on.")

  @Argument(help: ArgumentHelp("A file that `keel train` saved.", valueName: "model"))
  var path: String

  @OptionGroup var dataOptions: DataOptions

  @Option(parsing: .unconditional, help: ArgumentHelp("Images at a time.", valueName: "n"))
  var batchSize = 1000

  @OptionGroup var deviceOptions: DeviceOptions

  @Flag(help: "Print one JSON object on standard output, everything else on standard error.")
  var json = false

  func validate() throws {
    try expect(batchSize > 0, "--batch-size", "1 or more", got: batchSize)
    if dataOptions.data != nil { _ = try dataOptions.choice() }
  }

  /// The line of `--json`.
  struct Report: Encodable {
    var model: String
    var recipe: String?
    var device: String
    var data: String
    var count: Int
    var testLoss: Figure
    var testAccuracy: Figure
    var seconds: Figure
  }

  func run() async throws {
    let console = Console(json: json)
    let model = try ModelFile(path)
    let device = try deviceOptions.select()
    let choice = try dataOptions.choice(fallback: model.description.data)
    let test = try await dataOptions.load(choice, console).test
    try model.check(choice.title, sampleShape: test.featureShape, classCount: test.classCount)

    console.progress { _ in "evaluating on \(device.name) …" }
    let start = Date()
    let result = try model.trainer(on: device).evaluate(test, batchSize: batchSize)
    let seconds = Date().timeIntervalSince(start)

    let streamed = DataPlacement.automatic.streamingReason(test, batchSize: batchSize, on: device)
    let rows = [
      ["model", model.title],
      ["device", device.name],
      [
        "data",
        "\(choice.title), \(Text.count(result.count)) test images" + (streamed.map { ", streamed: \($0)" } ?? ""),
      ],
      ["loss", Text.loss(result.loss)],
      ["accuracy", Text.accuracy(result.accuracy)],
      ["time", Text.seconds(seconds)],
    ]
    console.line(TextTable([.left, .left], rows: rows).text)
    if json {
      try console.json(
        Report(
          model: path, recipe: model.description.recipe, device: device.name, data: choice.name, count: result.count,
          testLoss: Figure(result.loss), testAccuracy: Figure(result.accuracy), seconds: Figure(seconds)))
    }
    guard result.loss.isFinite else { throw CommandError("evaluate", "the loss is not a finite number") }
  }
}
