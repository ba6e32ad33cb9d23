import Foundation
import Keel

/// A run of `Trainer.fit` that people watch.
struct TrainingRun {
  var job: TrainingReport.Job
  var data: DatasetPair
  var epochs: Int
  var optimizer: Adam
  var onNonFiniteLoss: NonFinitePolicy
  var placement: DataPlacement
  /// Whether the launches of a step are timed at the end.
  var profiles: Bool
  var console: Console
  /// Watches for as long as the run is kept, so that a Ctrl-C while the model is saved does not spoil that.
  let interruption = Interruption()

  /// Trains until the end, an interruption, a loss that is not finite, or until nobody reads the output.
  ///
  /// - Parameter header: printed first, above the network's summary.
  func train(on device: Device, header: String) throws -> (Model, TrainingReport, Timeline?) {
    let train = data.train
    let model = Model(job.recipe.network(inputs: train.featureCount, classes: train.classCount))
    let summary = try model.summary(input: train.featureShape.dimensions)
    var options = Executable.Options.environment
    options.profiles = profiles
    let trainer = try Trainer(
      model, loss: .softmaxCrossEntropy, optimizer: optimizer, on: device, seed: job.seed, options: options)
    console.line("\(header)\n\n\(summary)\n")

    console.progress { _ in "compiling for \(device.name) …" }
    let start = Date()
    var compileSeconds = 0.0
    var stepsBegun = start
    let observe = { (event: TrainingEvent) in
      switch event {
      case .compiled(let seconds):
        compileSeconds = seconds
        stepsBegun = Date()
        console.line(EpochTable.header)
      case .progress(let epoch, let step, let steps):
        console.progress { columns in
          ProgressBar.render(
            "epoch \(epoch)/\(epochs)", done: (epoch - 1) * steps + step, total: epochs * steps, width: columns,
            elapsed: Date().timeIntervalSince(stepsBegun))
        }
      case .epoch(let epoch):
        console.line(EpochTable.line(epoch, of: epochs))
        // What is not a number stays none: further epochs would only take time.
        guard epoch.trainLoss.isFinite, epoch.validation?.loss.isFinite ?? true else { return false }
      }
      return !interruption.isRequested && !console.isClosed
    }
    var history: History
    var nonFinite: NonFiniteLoss?
    do {
      history = try trainer.fit(
        train, epochs: epochs, batchSize: job.batchSize, validation: data.test, seed: job.seed,
        onNonFiniteLoss: onNonFiniteLoss, placement: placement, observe: observe)
    } catch let error as NonFiniteLoss {
      (history, nonFinite) = (error.history, error)
    }
    console.endProgress()
    let isComplete = history.epochs.count == epochs && history.epochs.last?.validation != nil
    let timeline = profiles && nonFinite == nil ? try trainer.timeline() : nil
    return (
      model,
      TrainingReport(
        job, history, nonFinite, updates: trainer.step, seconds: Date().timeIntervalSince(start),
        compileSeconds: compileSeconds, model: nil,
        interrupted: interruption.isRequested && !isComplete && nonFinite == nil),
      timeline
    )
  }
}
