import Foundation
import Keel

/// What a training run came to: the line of `--json`, and the table at its end.
struct TrainingReport: Encodable {
  struct Epoch: Encodable {
    var number: Int
    var steps: Int
    /// Of these, the ones that changed nothing because their loss was not finite.
    var skippedSteps: Int
    var trainLoss: Figure
    var trainAccuracy: Figure
    var testLoss: Figure
    var testAccuracy: Figure
    /// Of training alone.
    var seconds: Figure

    init(_ epoch: History.Epoch) {
      number = epoch.number
      steps = epoch.steps
      skippedSteps = epoch.skippedSteps
      trainLoss = Figure(epoch.trainLoss)
      trainAccuracy = Figure(epoch.trainAccuracy)
      testLoss = Figure(epoch.validation?.loss)
      testAccuracy = Figure(epoch.validation?.accuracy)
      seconds = Figure(epoch.trainSeconds)
    }
  }

  var recipe: String
  var device: String
  var data: String
  var batchSize: Int
  var learningRate: Double
  var seed: UInt64
  /// Epochs trained, one that was cut short included.
  var epochs: Int
  var steps: Int
  var skippedSteps: Int
  var trainLoss: Figure
  var trainAccuracy: Figure
  var testLoss: Figure
  var testAccuracy: Figure
  /// All of it: compiling, training, evaluating.
  var seconds: Figure
  var compileSeconds: Figure
  /// The steps alone.
  var trainSeconds: Figure
  /// Over all steps. The first ones may include what the device's driver compiles late.
  var microsecondsPerStep: Figure
  /// The median over the epochs.
  var microsecondsPerStepMedian: Figure
  /// Where the model was saved; absent when it was not.
  var model: String?
  var interrupted: Bool
  var history: [Epoch]
  /// What shows that the run went astray, and what may help; nil when all losses are finite. No part of the JSON.
  var divergence: String?
  /// Steps that changed the model, those of an epoch without an end included. No part of the JSON.
  var updates: Int

  /// What was asked for.
  struct Job {
    var recipe: Recipe
    var device: String
    var data: String
    var batchSize: Int
    var learningRate: Double
    var seed: UInt64
  }

  /// - Parameters:
  ///   - nonFinite: what ended the run before its time; nil for nothing.
  ///   - updates: see the property.
  init(
    _ job: Job, _ history: History, _ nonFinite: NonFiniteLoss? = nil, updates: Int, seconds: Double,
    compileSeconds: Double, model: String?, interrupted: Bool
  ) {
    recipe = job.recipe.rawValue
    device = job.device
    data = job.data
    batchSize = job.batchSize
    learningRate = job.learningRate
    seed = job.seed
    let last = history.epochs.last
    epochs = history.epochs.count
    steps = history.steps
    skippedSteps = history.skippedSteps
    trainLoss = Figure(last?.trainLoss)
    trainAccuracy = Figure(last?.trainAccuracy)
    testLoss = Figure(last?.validation?.loss)
    testAccuracy = Figure(last?.validation?.accuracy)
    self.seconds = Figure(seconds)
    self.compileSeconds = Figure(compileSeconds)
    trainSeconds = Figure(history.trainSeconds)
    microsecondsPerStep = Figure(history.microsecondsPerStep)
    microsecondsPerStepMedian = Figure(
      history.epochs.filter { $0.steps > 0 }.map { $0.trainSeconds / Double($0.steps) * 1e6 }.median)
    self.model = model
    self.updates = updates
    self.interrupted = interrupted
    self.history = history.epochs.map(Epoch.init)
    let advice = "Try a --learning-rate below \(job.learningRate)"
    if let nonFinite {
      let (epoch, step) = (nonFinite.epoch, nonFinite.step)
      divergence =
        if let sample = nonFinite.sample {
          "sample \(sample), met in step \(step) of epoch \(epoch), has a value that is not finite. "
            + "--skip-non-finite leaves its batches out"
        } else {
          "diverged: the loss of step \(step) of epoch \(epoch) is \(Self.name(nonFinite.loss)). \(advice)"
        }
    } else if let last, last.steps > 0, !last.trainLoss.isFinite {
      divergence = "diverged: no step of epoch \(last.number) had a loss that is finite. \(advice)"
    } else if let last, let loss = last.validation?.loss, !loss.isFinite {
      divergence =
        "the test loss of epoch \(last.number) is \(Self.name(loss)) while the training loss is finite: a test sample has "
        + "a value that is not finite, or the network's values grow too large on it"
    }
  }

  private static func name(_ loss: Double) -> String { loss.isNaN ? "not a number" : "infinite" }

  private enum CodingKeys: CodingKey {
    case recipe, device, data, batchSize, learningRate, seed, epochs, steps, skippedSteps, trainLoss, trainAccuracy
    case testLoss, testAccuracy, seconds, compileSeconds, trainSeconds, microsecondsPerStep, microsecondsPerStepMedian,
      model
    case interrupted, history
  }

  var table: String {
    var rows = [
      ["device", device],
      [
        "epochs",
        "\(epochs)\(interrupted ? ", interrupted" : ""), \(Text.count(steps)) steps"
          + (skippedSteps > 0 ? ", \(Text.count(skippedSteps)) skipped" : ""),
      ],
      ["train", "loss \(Text.loss(trainLoss.value)), accuracy \(Text.accuracy(trainAccuracy.value))"],
      ["test", "loss \(Text.loss(testLoss.value)), accuracy \(Text.accuracy(testAccuracy.value))"],
      [
        "time",
        "\(Text.seconds(seconds.value ?? 0)): compiling \(Text.seconds(compileSeconds.value ?? 0)), "
          + "steps \(Text.seconds(trainSeconds.value ?? 0))",
      ],
      [
        "per step",
        "\(Text.microseconds(microsecondsPerStep.value)) µs, median of the epochs "
          + "\(Text.microseconds(microsecondsPerStepMedian.value)) µs",
      ],
    ]
    if let model { rows.append(["saved", model]) }
    return TextTable([.left, .left], rows: rows).text
  }
}

/// The lines that grow while a model learns.
enum EpochTable {
  static let header = "epoch      train loss  accuracy   test loss  accuracy      time"

  static func line(_ epoch: History.Epoch, of epochs: Int) -> String {
    let number = "\(epoch.number)/\(epochs)"
    let cells = [
      Text.loss(epoch.trainLoss), Text.accuracy(epoch.trainAccuracy), Text.loss(epoch.validation?.loss),
      Text.accuracy(epoch.validation?.accuracy), Text.seconds(epoch.trainSeconds),
    ]
    let widths = [10, 8, 10, 8, 8]
    let padded = zip(cells, widths).map { String(repeating: " ", count: max($1 - $0.count, 0)) + $0 }
    return number + String(repeating: " ", count: max(9 - number.count, 0)) + "  " + padded.joined(separator: "  ")
  }
}

/// The launches of a step, a line each: mean time, share of the step, rates.
enum LaunchTable {
  static func text(_ timeline: Timeline) -> String {
    let busy = timeline.launches.reduce(0) { $0 + $1.seconds }
    let rows = timeline.launches.map { launch -> [String] in
      func rate(_ amount: Double) -> String {
        amount > 0 && launch.seconds > 0 ? String(format: "%.1f", amount / launch.seconds * 1e-9) : "–"
      }
      return [
        launch.label, launch.path, Text.microseconds(launch.seconds * 1e6),
        Text.percent(timeline.secondsPerRun > 0 ? launch.seconds / timeline.secondsPerRun : 0), rate(launch.flops),
        rate(launch.bytes),
      ]
    }
    let table = TextTable(
      [.left, .left, .right, .right, .right, .right],
      rows: [["launch", "layer", "µs", "share", "GFLOP/s", "GB/s"]] + rows)
    return table.text
      + "\n\(rows.count) launches, \(Text.microseconds(busy * 1e6)) of \(Text.microseconds(timeline.secondsPerRun * 1e6))"
      + " µs a step; the rest lies between them"
  }
}
