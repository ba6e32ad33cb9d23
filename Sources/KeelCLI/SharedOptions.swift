import ArgumentParser
import Foundation
import Keel

/// Options of every command that uses a device.
struct DeviceOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "The device: a part of its or its platform's name, or platform:device as `keel devices` lists them.",
      discussion: "Default: $KEEL_DEVICE, else a GPU, else a CPU.", valueName: "name"))
  var device: String?

  func select() throws -> Device { try Device.select(device) }
}

/// Which data set, and where its files are.
struct DataOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "digits (1797 images of 8×8, part of the program), mnist, or a folder with four IDX files named as MNIST's are.",
      discussion: "Default: digits; for a saved model, what it was trained on.", valueName: "data"))
  var data: String?

  @Option(
    help: ArgumentHelp(
      "The folder that holds MNIST.",
      discussion: "Default: $KEEL_DATA, else ~/.cache/keel/mnist, into which it is downloaded when missing.",
      valueName: "folder"))
  var dataDir: String?

  /// The data to use.
  ///
  /// - Parameter fallback: what a saved model was trained on, which is the choice when none was named.
  func choice(fallback: String = "digits") throws -> DataChoice {
    guard let choice = try data.map(DataChoice.init) ?? (try? DataChoice(fallback)) else {
      throw CommandError(
        "data", "the model was trained on \(fallback), which is not there; name other data with --data")
    }
    if dataDir != nil, choice != .mnist {
      throw ValidationError("--data-dir is for --data mnist, not for \(choice.name).")
    }
    return choice
  }

  func load(_ choice: DataChoice, _ console: Console) async throws -> DatasetPair {
    switch choice {
    case .digits:
      return try Digits.load()
    case .folder(let path):
      return try IDXFolder.load(path, name: choice.title)
    case .mnist:
      if try MNIST.locate(directory: dataDir) == nil {
        let progress = DownloadProgress(console)
        console.note("downloading MNIST into \(MNIST.cacheDirectory())")
        defer { console.endProgress() }
        try await MNIST.download { progress.report($0) }
      }
      return try MNIST.load(directory: dataDir)
    }
  }
}

/// A data set by what the user calls it.
enum DataChoice: Equatable {
  case digits
  case mnist
  /// The absolute path of a folder.
  case folder(String)

  /// Throws unless it is a known name or a folder.
  init(_ text: String) throws {
    switch text {
    case "digits": self = .digits
    case "mnist": self = .mnist
    default:
      var isDirectory: ObjCBool = false
      guard FileManager.default.fileExists(atPath: text, isDirectory: &isDirectory), isDirectory.boolValue else {
        throw ValidationError("--data expects digits, mnist or a folder; there is no folder '\(text)'.")
      }
      self = .folder(URL(fileURLWithPath: text).standardizedFileURL.path)
    }
  }

  /// What finds the data again: goes into the model's file.
  var name: String {
    switch self {
    case .digits: "digits"
    case .mnist: "mnist"
    case .folder(let path): path
    }
  }

  /// What the data is called in messages.
  var title: String {
    switch self {
    case .digits, .mnist: name
    case .folder(let path): URL(fileURLWithPath: path).lastPathComponent
    }
  }
}

/// A bar a file on a terminal, a line a file elsewhere. Unchecked: the lock guards what changes.
final class DownloadProgress: @unchecked Sendable {
  private let console: Console
  private let lock = NSLock()
  private var file = ""
  private var begun = 0.0

  init(_ console: Console) { self.console = console }

  func report(_ progress: Download.Progress) {
    let now = ProcessInfo.processInfo.systemUptime
    let (isNew, begun) = lock.withLock {
      let isNew = file != progress.file
      if isNew { (file, self.begun) = (progress.file, now) }
      return (isNew, self.begun)
    }
    if isNew, !console.isInteractive {
      let size = progress.expected.map { " (\(Text.count($0)) bytes)" } ?? ""
      console.note("  \(progress.file) from \(progress.mirror.host ?? "")\(size)")
    }
    console.progress { columns in
      guard let expected = progress.expected else { return "\(progress.file)  \(Text.count(progress.received)) bytes" }
      return ProgressBar.render(
        progress.file, done: progress.received, total: expected, width: columns, elapsed: now - begun)
    }
  }
}

extension Recipe: ExpressibleByArgument {}

/// Throws the usage error of an option unless its value is in range.
func expect(_ isValid: Bool, _ option: String, _ expectation: String, got value: Any) throws {
  guard isValid else { throw ValidationError("\(option) expects \(expectation), got \(value).") }
}
