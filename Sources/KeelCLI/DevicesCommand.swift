import ArgumentParser
import Foundation
import Keel

struct DevicesCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "devices", abstract: "Lists the OpenCL devices of this machine.",
    discussion: "What failed to answer is listed too. [default] stands at the device used when none is asked for.")

  @Flag(help: "Print one JSON object.")
  var json = false

  func run() async throws {
    let console = Console(json: json)
    let database = TuningDatabase()
    let kernels = try TuningDatabase.kernels()
    let listing = try DeviceListing.current { report, device in
      report.mostWorkers = DeviceProfile(device).mostWorkers
      report.tunedChoices = database.choices(for: device, kernels: kernels).entries.count
      report.tuningFile = database.file?.path
    }
    if json { try console.json(listing) } else { console.line(listing.table) }
    let request = ProcessInfo.processInfo.environment["KEEL_DEVICE"] ?? ""
    if !request.isEmpty, !listing.devices.contains(where: \.isDefault) {
      console.note("note: KEEL_DEVICE is \"\(request)\", which names none of them")
    }
    if listing.devices.isEmpty { throw ExitCode.failure }
  }
}
