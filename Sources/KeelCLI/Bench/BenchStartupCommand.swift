import ArgumentParser
import Foundation
import Keel

struct BenchStartupCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "startup",
    abstract: "Times the way from the start of a process to the end of its first training step.",
    discussion: """
      Each run is a process of its own that takes one step of 32 samples of 28×28. Cold runs have new, empty folders for \
      Keel's compiled kernels and for those that PoCL, NVIDIA's driver and whoever heeds XDG_CACHE_HOME keep; warm ones \
      those of the last cold run. The time is made of

        process   until the tool's first statement: loading it, parsing the arguments
        platform  OpenCL's loader and drivers, until there is a device
        programs  context, network, graph, kernels, and the step that is run once before training
        step      the first step of training

      The smallest total is printed with its parts, and the median of the totals. Of cold runs there are \(coldRuns) at \
      most.
      """)

  @Option(
    name: .customLong("recipe"),
    help: ArgumentHelp(
      "A network to time; may be given several times. Default: mnist-bn and hands-on.", valueName: "recipe"))
  var recipes: [Recipe] = []

  @OptionGroup var options: BenchOptions

  /// When the parent started this process, by the clock of ``now``; only such a process has it.
  @Option(help: .private) var begun: UInt64?

  private static let coldRuns = 3
  private static let batchSize = 32

  enum Cache: String, Encodable {
    case cold, warm

    /// Seconds.
    var target: Double { self == .cold ? 4 : 0.4 }
  }

  /// Seconds from the start of the process to the end of each part.
  struct Marks: Codable {
    var process: Double
    var platform: Double
    var programs: Double
    var step: Double
  }

  struct Row: Encodable {
    var recipe: String
    var cache: Cache
    /// Of the fastest run.
    var seconds: Figure
    /// The median of the runs.
    var median: Figure
    var processSeconds: Figure
    var platformSeconds: Figure
    var programSeconds: Figure
    var stepSeconds: Figure
    var targetSeconds: Double
  }

  /// The line of `--json`.
  struct Report: Encodable {
    var device: String
    var startups: [Row]
  }

  func run() async throws {
    if let begun { return try runStep(since: begun) }
    let console = Console(json: options.json)
    let device = try options.deviceOptions.select()
    console.line("device    \(device.name)\n")
    let columns = TextColumns([
      "recipe": -11, "caches": -6, "seconds": 7, "median": 7, "process": 7, "platform": 8, "programs": 8, "step": 7,
      "target": 8,
    ])
    console.line(columns.header)
    var rows: [Row] = []
    for recipe in recipes.isEmpty ? [.mnistBN, .handsOn] : recipes {
      for row in try measure(recipe, console) {
        rows.append(row)
        let figures = [
          row.seconds, row.median, row.processSeconds, row.platformSeconds, row.programSeconds, row.stepSeconds,
        ]
        console.line(
          columns.line(
            [row.recipe, row.cache.rawValue] + figures.map { $0.value.map { String(format: "%.3f", $0) } ?? "–" }
              + ["≤ \(row.targetSeconds)"]))
      }
    }
    if options.json { try console.json(Report(device: device.name, startups: rows)) }
  }

  /// Cold, then warm.
  private func measure(_ recipe: Recipe, _ console: Console) throws -> [Row] {
    var folder = try TemporaryFolder()
    func runs(_ cache: Cache, _ count: Int) throws -> Row {
      let marks = try (1...count).map { run in
        console.progress(always: true) { _ in "\(recipe.rawValue), \(cache.rawValue) caches, run \(run) of \(count)" }
        if cache == .cold { folder = try TemporaryFolder() }
        return try start(recipe, caches: folder)
      }
      let best = marks.min { $0.step < $1.step }
      return Row(
        recipe: recipe.rawValue, cache: cache, seconds: Figure(best?.step), median: Figure(marks.map(\.step).median),
        processSeconds: Figure(best?.process), platformSeconds: Figure(best.map { $0.platform - $0.process }),
        programSeconds: Figure(best.map { $0.programs - $0.platform }),
        stepSeconds: Figure(best.map { $0.step - $0.programs }), targetSeconds: cache.target)
    }
    return [try runs(.cold, min(options.repeats, Self.coldRuns)), try runs(.warm, options.repeats)]
  }

  /// A process that takes one step, with caches in `caches`.
  private func start(_ recipe: Recipe, caches: TemporaryFolder) throws -> Marks {
    var arguments = ["bench", "startup", "--recipe", recipe.rawValue, "--begun", "\(Self.now)"]
    if let device = options.deviceOptions.device { arguments += ["--device", device] }
    let child = ChildProcess(
      try ChildProcess.ownExecutable(), arguments,
      environment: [
        "KEEL_CACHE_DIR": caches.path("keel"), "POCL_CACHE_DIR": caches.path("pocl"),
        "CUDA_CACHE_PATH": caches.path("cuda"), "XDG_CACHE_HOME": caches.path("xdg"),
      ])
    return try JSONDecoder().decode(Marks.self, from: child.output())
  }

  /// What a process of ``start(_:caches:)`` does.
  private func runStep(since begun: UInt64) throws {
    func seconds() -> Double { Double(max(Self.now, begun) - begun) * 1e-9 }
    let process = seconds()
    let device = try options.deviceOptions.select()
    let platform = seconds()
    let recipe = recipes.first ?? .mnistBN
    let data = try Dataset.noise(count: Self.batchSize)
    let trainer = try Trainer(
      recipe.network(inputs: data.featureCount, classes: data.classCount), loss: .softmaxCrossEntropy,
      optimizer: recipe.optimizer, on: device)
    var (programs, step) = (Double.nan, Double.nan)
    try trainer.fit(data, epochs: 1, batchSize: Self.batchSize) { event in
      switch event {
      case .compiled: programs = seconds()
      case .progress: step = seconds()
      case .epoch: break
      }
      return true
    }
    try Console(json: true).json(Marks(process: process, platform: platform, programs: programs, step: step))
  }

  /// Nanoseconds of the machine's monotonic clock, which all processes share.
  private static var now: UInt64 { DispatchTime.now().uptimeNanoseconds }
}
