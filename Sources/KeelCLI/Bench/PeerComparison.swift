import Foundation
import Keel

/// Times work in Keel and in its peers, turn by turn.
final class PeerComparison {
  let device: Device
  let deviceName: String?
  let peers: Peers
  let repeats: Int
  private let work: StepBenchOptions
  let console: Console
  let emit: (ComparedRow) -> Void
  private var servers: [(script: PeerScript, server: PeerServer)] = []

  /// A script with the forms that it has of a work.
  private struct PeerScript {
    var file: String
    var forms: [String]
    /// Peer's time by Keel's that is wanted, by the title of the work.
    var targets: [String: Double]

    static let all = [
      PeerScript(
        file: "step_torch.py", forms: ["eager", "compile"],
        targets: [
          "step mnist-bn, batch 32": 10, "step mnist-bn, batch 256": 4, "step hands-on, batch 32": 4,
          "step hands-on, batch 256": 1 / 0.55, "evaluate hands-on, batch 32": 2, "evaluate hands-on, batch 1000": 1.25,
        ]),
      PeerScript(
        file: "step_jax.py", forms: ["jit", "scan"],
        targets: [
          "step mnist-bn, batch 32": 2, "step mnist-bn, batch 256": 1 / 0.45, "step hands-on, batch 32": 1 / 0.55,
          "step hands-on, batch 256": 1 / 0.7, "evaluate hands-on, batch 32": 2, "evaluate hands-on, batch 1000": 1.25,
        ]),
    ]
  }

  /// - Parameters:
  ///   - deviceName: what processes are given as `--device`.
  ///   - emit: called with each row as it is measured.
  init(
    device: Device, deviceName: String?, peers: Peers, repeats: Int, work: StepBenchOptions, console: Console,
    emit: @escaping (ComparedRow) -> Void
  ) {
    (self.device, self.deviceName, self.peers, self.emit) = (device, deviceName, peers, emit)
    (self.repeats, self.work, self.console) = (repeats, work, console)
  }

  func run(_ part: ComparedPart) throws {
    switch part {
    case .steps: for job in work.jobs { try compareSteps(job.recipe, job.batchSize) }
    case .evaluation: for batchSize in [32, 1000] { try compareEvaluation(batchSize) }
    case .mnist: try compareMNIST()
    case .products: try compareProducts()
    case .clblast: try compareCLBlast()
    }
  }

  /// 1, 2, and all cores.
  private var threadCounts: [Int] {
    let cores = ProcessInfo.processInfo.activeProcessorCount
    return Set([1, 2, cores]).filter { $0 <= cores }.sorted()
  }

  func progress(_ text: String) { console.progress(always: true) { _ in text + " …" } }

  // MARK: In turns with servers

  private func compareSteps(_ recipe: Recipe, _ batchSize: Int) throws {
    let data = try Dataset.noise(count: work.steps * batchSize)
    let trainer = try Trainer(
      recipe.network(inputs: data.featureCount, classes: data.classCount), loss: .softmaxCrossEntropy,
      optimizer: recipe.optimizer, on: device)
    try compare(.steps, "step \(recipe.rawValue), batch \(batchSize)", "step", recipe, batchSize) {
      let epoch = try trainer.fit(data, epochs: 1, batchSize: batchSize).epochs[0]
      return epoch.trainSeconds * 1e6 / Double(epoch.steps)
    }
  }

  private func compareEvaluation(_ batchSize: Int) throws {
    let data = try Dataset.noise(count: 10_000)
    let model = Model(Recipe.handsOn.network(inputs: data.featureCount, classes: data.classCount))
    try model.initialize(seed: 0, dtype: .float32)
    let folded = try model.fold(.all, sample: data.featureShape).model
    let trainer = try Trainer(folded, loss: .softmaxCrossEntropy, optimizer: SGD(learningRate: 0), on: device)
    try compare(.evaluation, "evaluate hands-on, batch \(batchSize)", "evaluate", .handsOn, batchSize) {
      try Timing.seconds { _ = try trainer.evaluate(data, batchSize: batchSize) } * 1e6
    }
  }

  /// - Parameter own: microseconds of Keel's turn.
  private func compare(
    _ part: ComparedPart, _ title: String, _ work: String, _ recipe: Recipe, _ batchSize: Int,
    own: () throws -> Double
  ) throws {
    progress("\(title): compiling")
    _ = try own()
    // The servers of each form, one for each number of threads: the best in two runs goes on.
    var rivals: [(server: PeerServer, job: PeerServer.Job, target: Double, times: Timing)] = []
    for script in PeerScript.all {
      let servers = try self.servers(of: script)
      for form in script.forms {
        let job = PeerServer.Job(work: work, form: form, recipe: recipe.rawValue, batchSize: batchSize)
        let trials = try servers.map { server in
          progress("\(title): \(server.name) \(form), \(server.threads) threads")
          return (server, try (0..<2).map { _ in try server.microseconds(job) }.min() ?? .infinity)
        }
        if let best = trials.min(by: { $0.1 < $1.1 }) {
          rivals.append((best.0, job, script.targets[title] ?? 1, Timing()))
        }
      }
    }
    var times = Timing()
    for turn in 1...repeats {
      progress("\(title): turn \(turn) of \(repeats)")
      times.append(try own())
      for index in rivals.indices {
        rivals[index].times.append(try rivals[index].server.microseconds(rivals[index].job))
      }
    }
    for rival in rivals {
      let peer = "\(Self.short(rival.server.name)) \(rival.job.form), \(rival.server.threads) thr."
      emit(
        ComparedRow(
          part, title, .microseconds, keel: times.extract, peer: peer, other: rival.times.extract, target: rival.target)
      )
    }
  }

  private func servers(of script: PeerScript) throws -> [PeerServer] {
    for threads in threadCounts where !servers.contains(where: { $0.0.file == script.file && $0.1.threads == threads })
    {
      progress("starting \(script.file)")
      servers.append((script, try PeerServer(peers, script: script.file, threads: threads, steps: work.steps)))
    }
    return servers.filter { $0.script.file == script.file }.map(\.server)
  }

  /// `pytorch 2.15.0+cu132` without what it was built for.
  private static func short(_ name: String) -> String { String(name.prefix { $0 != "+" }) }

  // MARK: Whole processes

  private func compareMNIST() throws {
    let title = "mnist-bn on MNIST, 10 epochs"
    guard let data = try MNIST.locate() else { throw CommandError("bench", "expects MNIST on this machine") }
    let folder = try TemporaryFolder()
    let device = deviceName.map { ["--device", $0] } ?? []
    let own = [
      try ChildProcess.ownExecutable(), "train", "mnist-bn", "--data", "mnist", "--data-dir", data, "--epochs", "10",
      "--out", folder.path("model.safetensors"),
    ]
    func rival(_ form: String, _ threads: Int, epochs: Int = 10) -> [String] {
      [peers.python, peers.script("mnist_torch.py"), data, "--form", form, "--threads", "\(threads)"]
        + ["--epochs", "\(epochs)"]
    }
    progress("\(title): Keel, to fill the caches")
    _ = try peers.usage(of: own + device)
    var trials: [(form: String, threads: Int, seconds: Double)] = []
    for form in ["eager", "compile"] {
      for threads in threadCounts {
        progress("\(title): PyTorch \(form), \(threads) threads")
        // The first run fills the caches of files and of what is compiled.
        _ = try peers.usage(of: rival(form, threads, epochs: 1))
        trials.append((form, threads, try peers.usage(of: rival(form, threads)).seconds))
      }
    }
    guard let best = trials.min(by: { $0.seconds < $1.seconds }) else { return }
    var (seconds, megabytes) = ((Timing(), Timing()), (Timing(), Timing()))
    for turn in 1...repeats {
      progress("\(title): turn \(turn) of \(repeats)")
      let ownUsage = try peers.usage(of: own + device)
      let otherUsage = try peers.usage(of: rival(best.form, best.threads))
      seconds.0.append(ownUsage.seconds)
      seconds.1.append(otherUsage.seconds)
      megabytes.0.append(ownUsage.peakBytes * 1e-6)
      megabytes.1.append(otherUsage.peakBytes * 1e-6)
    }
    let peer = "pytorch \(best.form), \(best.threads) thr."
    emit(
      ComparedRow(.mnist, title, .seconds, keel: seconds.0.extract, peer: peer, other: seconds.1.extract, target: 10))
    emit(
      ComparedRow(
        .mnist, "  its peak memory", .megabytes, keel: megabytes.0.extract, peer: peer, other: megabytes.1.extract,
        target: 1 / 0.3))
  }
}
